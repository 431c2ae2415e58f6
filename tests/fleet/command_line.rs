//! What the command line promises: exit codes, JSON, colours, limits, suggestions.

use std::process::Command;

use fleet_tests::{Lab, Output, Project, Requirement};
use serde_json::Value;

use crate::Test;
use crate::main_job::executions;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "command_line::completions_are_understood_by_their_shells",
        needs: &[Requirement::Root],
        run: completions_are_understood_by_their_shells,
    },
    Test {
        name: "command_line::a_plan_tells_by_its_exit_code_whether_there_are_changes",
        needs: &[Requirement::Root],
        run: a_plan_tells_by_its_exit_code_whether_there_are_changes,
    },
    Test {
        name: "command_line::nothing_is_changed_without_a_terminal_to_confirm_at",
        needs: &[Requirement::Root],
        run: nothing_is_changed_without_a_terminal_to_confirm_at,
    },
    Test {
        name: "command_line::json_is_one_document_also_when_it_fails",
        needs: &[Requirement::Root],
        run: json_is_one_document_also_when_it_fails,
    },
    Test {
        name: "command_line::colours_and_bars_are_for_terminals_that_want_them",
        needs: &[Requirement::Root],
        run: colours_and_bars_are_for_terminals_that_want_them,
    },
    Test {
        name: "command_line::a_limit_leaves_every_other_host_alone",
        needs: &[Requirement::Root],
        run: a_limit_leaves_every_other_host_alone,
    },
    Test {
        name: "command_line::names_that_do_not_exist_are_met_with_a_suggestion",
        needs: &[Requirement::Root],
        run: names_that_do_not_exist_are_met_with_a_suggestion,
    },
    Test {
        name: "command_line::a_reader_that_goes_away_is_no_error",
        needs: &[Requirement::Root],
        run: a_reader_that_goes_away_is_no_error,
    },
];

const TEMPLATE: &str = "templates/collector/gateway.yaml.tera";
const LINE: &str = "# Gateway collector.";
const OTHER_LINE: &str = "# Gateway collector, for the tests of the command line.";

fn completions_are_understood_by_their_shells(lab: &Lab) {
    for (shell, check) in [
        ("bash", &["bash", "-n"][..]),
        ("zsh", &["zsh", "-n"]),
        ("fish", &["fish", "--no-execute"]),
    ] {
        let script = Command::new(Project::programs().join("provision"))
            .args(["completions", shell])
            .output()
            .expect("a script");
        assert!(script.status.success(), "{shell}");
        let text = String::from_utf8(script.stdout).expect("a text");
        for word in ["destroy", "inventory", "--limit", "--forks"] {
            let word = word.trim_start_matches("--");
            assert!(text.contains(word), "{word} is missing for {shell}");
        }
        let file = lab.project().write(&format!("completions.{shell}"), &text);
        let path = lab.project().path(&format!("completions.{shell}"));
        match Command::new(check[0]).args(&check[1..]).arg(&path).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {output:?}"),
            Err(error) => {
                println!("{shell} is not installed here: its script was not parsed");
                assert!(std::env::var_os("CI").is_none(), "{shell}: {error}");
            }
        }
        drop(file);
    }
    // The one that is surely there also has to answer.
    let ask = "eval \"$(\"$0\" completions bash)\"; COMP_WORDS=(provision des); COMP_CWORD=1; \
        _provision provision des provision; echo \"${COMPREPLY[@]}\"";
    let program = Project::programs().join("provision");
    let _ = Output::of(Command::new("bash").args(["-c", ask]).arg(program))
        .success()
        .says(&["destroy"]);
    let version = Output::of(Command::new(Project::programs().join("provision")).arg("--version"));
    assert_eq!(
        version.success().stdout,
        concat!("provision ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

fn a_plan_tells_by_its_exit_code_whether_there_are_changes(lab: &Lab) {
    let plan = || lab.project().provision(&["plan", "--env", "development"]);
    let _ = plan().success().says(&["nothing to do"]);
    let edit = lab.project().edit(TEMPLATE, LINE, OTHER_LINE);
    let _ = plan().expect_code(2).says(&["4 changes on 2 of 4 hosts"]);
    drop(edit);
    let edit = lab.project().edit(TEMPLATE, LINE, "{{ nothing }}");
    let _ = plan().expect_code(1).says(&[TEMPLATE]);
    drop(edit);
}

fn nothing_is_changed_without_a_terminal_to_confirm_at(lab: &Lab) {
    let before = lab.trees();
    let _edit = lab.project().edit(TEMPLATE, LINE, OTHER_LINE);
    for command in [&["apply"][..], &[], &["destroy"]] {
        let arguments = [command, &["--env", "development"]].concat();
        let _ = lab
            .project()
            .provision(&arguments)
            .expect_code(1)
            .says(&["there is no terminal to confirm at", "--yes"]);
    }
    let declined = on_terminal(lab, &["apply", "--env", "development"], &[], "n\n");
    let _ = declined
        .expect_code(1)
        .says(&["Apply these changes? [y/N]", "nothing was changed"]);
    assert_eq!(before, lab.trees());
}

fn json_is_one_document_also_when_it_fails(lab: &Lab) {
    let run = |arguments: &[&str], code: i32| -> Value {
        let all = [arguments, &["--output", "json"]].concat();
        let output = lab.project().provision(&all).expect_code(code);
        let parsed = serde_json::from_str(&output.stdout);
        parsed.unwrap_or_else(|error| panic!("{error}:\n{}", output.describe()))
    };
    let environment = ["--env", "development"];
    let with = |command: &[&'static str]| [command, &environment].concat();
    let error = |document: &Value| {
        let error = &document["error"];
        for list in ["causes", "diagnostics", "hints"] {
            assert!(error[list].is_array(), "{list} in {document}");
        }
        error["message"].as_str().expect("a message").to_owned()
    };

    let show = run(&with(&["inventory", "show"]), 0);
    assert_eq!(show.as_array().map(Vec::len), Some(4), "{show}");
    let status = run(&with(&["status"]), 0);
    assert_eq!(status.as_array().map(Vec::len), Some(4), "{status}");
    let plan = run(&with(&["plan"]), 0);
    assert_eq!(plan.as_array().map(Vec::len), Some(4), "{plan}");
    let unchanged = run(&with(&["apply", "--yes"]), 0);
    assert_eq!(unchanged["hosts"][0]["outcome"], "unchanged", "{unchanged}");

    let edit = lab.project().edit(TEMPLATE, LINE, OTHER_LINE);
    let plan = run(&with(&["plan"]), 2);
    assert!(
        plan.to_string()
            .contains("for the tests of the command line")
    );
    drop(edit);
    // A mistake in a file: the place of each is data.
    let edit = lab.project().edit(TEMPLATE, LINE, "{{ nothing }}");
    for command in [&["plan"][..], &["apply", "--yes"], &["status"]] {
        let refused = run(&with(command), 1);
        assert_eq!(error(&refused), "1 mistake found, nothing was done");
        let place = &refused["error"]["diagnostics"][0]["location"];
        assert_eq!(place["file"], TEMPLATE, "{refused}");
        assert_eq!(place["line"], 1, "{refused}");
    }
    drop(edit);
    // A host refuses.
    let edit = lab
        .project()
        .edit(TEMPLATE, "processors:\n", "processor:\n");
    let refused = run(&with(&["apply", "--yes"]), 1);
    assert!(error(&refused).starts_with("refused"), "{refused}");
    drop(edit);
    // The command line itself.
    for command in ["plan", "apply", "status", "destroy"] {
        let refused = run(&with(&[command, "--yes", "--limit", "collector-3"])[..], 1);
        let _ = error(&refused);
    }
    for command in [
        &["plan"][..],
        &["status"],
        &["inventory", "show"],
        &["apply"],
    ] {
        let refused = run(&[command, &["--env", "developmen"]].concat(), 1);
        if command != ["apply"] {
            assert_eq!(error(&refused), "there is no environment `developmen`");
        }
        assert!(refused["error"]["hints"][0].is_string(), "{refused}");
    }
    let refused = run(&["plan", "--env", "development", "--fork", "2"], 1);
    assert!(error(&refused).contains("--fork"), "{refused}");
}

/// Runs `provision` on a terminal of its own, with answers.
fn on_terminal(
    lab: &Lab,
    arguments: &[&str],
    environment: &[(&str, &str)],
    answers: &str,
) -> Output {
    let command = lab.project().command(arguments);
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut script = Command::new("sh");
    script
        .args(["-c", "printf \"$1\" | script -qec \"$0\" /dev/null"])
        .args([words.join(" "), answers.to_owned()])
        .envs(environment.iter().copied())
        .env("TERM", "xterm-256color")
        // A continuous integration counts as something that shows colours, whatever TERM says.
        .env_remove("CI")
        .env_remove("NO_COLOR");
    for (name, value) in environment {
        script.env(name, value);
    }
    Output::of(&mut script)
}

fn has_colours(text: &str) -> bool {
    text.split("\u{1b}[").skip(1).any(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
        end.is_some_and(|end| rest[end..].starts_with('m'))
    })
}

fn colours_and_bars_are_for_terminals_that_want_them(lab: &Lab) {
    let _edit = lab.project().edit(TEMPLATE, LINE, OTHER_LINE);
    let plan = ["plan", "--env", "development"];
    let piped = lab.project().provision(&plan).expect_code(2);
    assert!(!piped.describe().contains('\u{1b}'), "{}", piped.describe());
    let shown = on_terminal(lab, &plan, &[], "").expect_code(2);
    assert!(has_colours(&shown.stdout), "{}", shown.describe());
    // Only a bar says what a host is at.
    assert!(shown.stdout.contains("observing"), "{}", shown.describe());
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = on_terminal(lab, &plan, &[variable], "").expect_code(2);
        assert!(
            !has_colours(&plain.stdout),
            "{variable:?} {}",
            plain.describe()
        );
    }
    let unknown = ["plan", "--env", "nowhere"];
    let piped = lab.project().provision(&unknown).expect_code(1);
    assert!(!piped.describe().contains('\u{1b}'), "{}", piped.describe());
    let shown = on_terminal(lab, &unknown, &[], "").expect_code(1);
    assert!(has_colours(&shown.stdout), "{}", shown.describe());
    let plain = on_terminal(lab, &unknown, &[("NO_COLOR", "1")], "").expect_code(1);
    assert!(!has_colours(&plain.stdout), "{}", plain.describe());
}

fn a_limit_leaves_every_other_host_alone(lab: &Lab) {
    let sessions = |host: &str| executions(lab, host, "root");
    let others = ["lb-1", "collector-2", "storage-1"];
    let edit = lab.project().edit(TEMPLATE, LINE, OTHER_LINE);
    let trees = others.map(|host| lab.tree(host));
    let before = others.map(sessions);
    let apply = |limit: &str| {
        let arguments = ["apply", "--env", "development", "--yes", "--limit", limit];
        lab.project().provision(&arguments).success()
    };
    let output = apply("collector-1").says(&["collector-1: 2 changes"]);
    for (host, before) in others.into_iter().zip(before) {
        let said = [output.stdout.as_str(), &output.stderr].concat();
        let is_named = said
            .lines()
            .any(|line| line.starts_with(&format!("{host}: ")));
        assert!(!is_named, "{}", output.describe());
        // Its HAProxy leaves the gateway out while that changes; nothing else is asked of it.
        let balances = usize::from(host == "lb-1");
        assert_eq!(
            sessions(host),
            before + 1 + balances,
            "{host} was connected to"
        );
    }
    assert_eq!(trees, others.map(|host| lab.tree(host)));
    let plan = [
        "plan",
        "--env",
        "development",
        "--forks",
        "1",
        "--limit",
        "gateways",
    ];
    let _ = lab
        .project()
        .provision(&plan)
        .expect_code(2)
        .says(&["2 changes on 1 of 2 hosts"]);
    let _ = lab
        .project()
        .provision(&[
            "inventory",
            "show",
            "--env",
            "development",
            "--limit",
            "storage",
        ])
        .success()
        .says(&["storage-1"]);
    drop(edit);
    let output = apply("gateways");
    assert!(
        output.stdout.contains("collector-1: 2 changes"),
        "{}",
        output.describe()
    );
    assert!(
        output.stdout.contains("collector-2: unchanged"),
        "{}",
        output.describe()
    );
    let everything = ["apply", "--env", "development", "--yes", "--forks", "1"];
    let _ = lab.project().provision(&everything).success();
}

fn names_that_do_not_exist_are_met_with_a_suggestion(lab: &Lab) {
    for (arguments, message, hint) in [
        (
            &["plan", "--env", "develpment"][..],
            "there is no environment `develpment`",
            "did you mean `development`?",
        ),
        (
            &["plan", "--env", "development", "--limit", "colector-1"],
            "--limit names `colector-1`, which is neither a host nor a group",
            "did you mean `collector-1`?",
        ),
        (
            &["plan", "--env", "development", "--limit", "gateway"],
            "--limit names `gateway`",
            "did you mean `gateways`?",
        ),
        (
            &["lab", "list", "--inventory", "labb"],
            "there is no inventory `labb`",
            "did you mean `lab`?",
        ),
        (&["plann", "--env", "development"], "plann", "plan"),
    ] {
        let output = lab.project().provision(arguments).expect_code(1);
        let _ = output.says(&[message, hint]);
    }
    let none = lab
        .project()
        .provision(&["plan", "--env", "development", "--forks", "0"]);
    let _ = none.expect_code(1).says(&["a number between 1 and 1024"]);
}

fn a_reader_that_goes_away_is_no_error(lab: &Lab) {
    let _edit = lab.project().edit(TEMPLATE, LINE, OTHER_LINE);
    for (arguments, code) in [
        (&["completions", "bash"][..], "0"),
        (&["plan", "--env", "development", "--verbose"], "2"),
        (
            &[
                "inventory",
                "show",
                "--env",
                "development",
                "--output",
                "json",
            ],
            "0",
        ),
        (&["--help"], "0"),
    ] {
        let command = match arguments[0] {
            "completions" | "--help" => {
                let mut command = Command::new(Project::programs().join("provision"));
                command.args(arguments);
                command
            }
            _ => lab.project().command(arguments),
        };
        // The reader is gone before the first byte.
        let mut shell = Command::new("bash");
        shell
            .args(["-c", "\"$0\" \"$@\" | true; echo ${PIPESTATUS[0]}"])
            .arg(command.get_program())
            .args(command.get_args());
        let output = Output::of(&mut shell).success();
        assert_eq!(output.stdout.trim(), code, "{}", output.describe());
        assert!(!output.stderr.contains("error"), "{}", output.describe());
        assert!(!output.stderr.contains("panicked"), "{}", output.describe());
    }
}
