//! A plan in a file: applied exactly, or refused with what differs.

use std::fs;

use fleet_tests::{Lab, Output, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "saved_plan::a_plan_in_a_file_is_applied_without_asking_and_only_once",
        needs: &[Requirement::Root],
        run: a_plan_in_a_file_is_applied_without_asking_and_only_once,
    },
    Test {
        name: "saved_plan::a_plan_that_does_not_hold_any_more_is_refused_with_what_differs",
        needs: &[Requirement::Root],
        run: a_plan_that_does_not_hold_any_more_is_refused,
    },
    Test {
        name: "saved_plan::a_page_shows_the_plan_and_needs_nothing_else",
        needs: &[Requirement::Root],
        run: a_page_shows_the_plan,
    },
];

const TEMPLATE: &str = "templates/collector/gateway.yaml.tera";
const STREAMS: &str = "max_concurrent_streams: 100";
const CONFIG: &str = "/etc/otel-collector/config.yaml";

fn plan(lab: &Lab, more: &[&str]) -> Output {
    let arguments = ["plan", "--env", "development", "--limit", "collector-1"];
    lab.project().provision(&[&arguments, more].concat())
}

fn a_plan_in_a_file_is_applied_without_asking_and_only_once(lab: &Lab) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.plan");
    let file = file.to_str().expect("a path");
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 270");
    let other = lab.tree("collector-2");
    let before = lab.tree("collector-1");
    let _ = plan(lab, &["--out", file])
        .expect_code(2)
        .says(&["written"]);
    assert_eq!(before, lab.tree("collector-1"), "a plan changes nothing");
    let _ = lab.project().provision(&["apply", file]).success();
    let config = lab.ssh("collector-1", &format!("cat {CONFIG}"));
    assert!(config.contains("max_concurrent_streams: 270"), "{config}");
    assert_eq!(other, lab.tree("collector-2"), "the plan is limited to one");
    lab.expect_unchanged(|| {
        let again = lab.project().provision(&["apply", file]).expect_code(1);
        let _ = again.says(&[
            "the plan does not hold any more; nothing was changed on any host",
            "collector-1: file /etc/otel-collector/config.yaml: the plan is to update it, and \
             nothing is to be done any more",
        ]);
    });
    drop(edit);
    let _ = lab.project().apply();
}

fn a_plan_that_does_not_hold_any_more_is_refused(lab: &Lab) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.plan");
    let file = file.to_str().expect("a path");
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 271");
    let _ = plan(lab, &["--out", file]).expect_code(2);
    let refused = |words: &str| {
        lab.expect_unchanged(|| {
            let output = lab.project().provision(&["apply", file]).expect_code(1);
            let _ = output.says(&["the plan does not hold any more", words]);
        });
    };
    // The project gives something else.
    let newer = lab.project().edit(
        TEMPLATE,
        "max_concurrent_streams: 271",
        "max_concurrent_streams: 272",
    );
    refused("collector-1: file /etc/otel-collector/config.yaml: its new content is another one");
    drop(newer);
    let pace = lab
        .project()
        .edit("playbooks/collectors.toml", "max_fail = 0", "max_fail = 1");
    refused("play gateways: max_fail: 0 → 1 by now");
    drop(pace);
    // Somebody changes the host.
    let _ = lab.ssh("collector-1", &format!("echo '# by hand' >> {CONFIG}"));
    refused("collector-1: file /etc/otel-collector/config.yaml: what is there now");
    let _ = lab.ssh("collector-1", &format!("sed -i '$d' {CONFIG}"));
    // As it was, it holds again.
    let _ = lab.project().provision(&["apply", file]).success();
    fs::write(file, "{}").expect("a file");
    let output = lab.project().provision(&["apply", file]).expect_code(1);
    let _ = output.says(&["is no plan", "`provision plan --out FILE` makes one"]);
    drop(edit);
    let _ = lab.project().apply();
}

fn a_page_shows_the_plan(lab: &Lab) {
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 273");
    let page = plan(lab, &["--output", "html"]).expect_code(2).stdout;
    drop(edit);
    for words in [
        "<h1>development</h1>",
        "<h3>collector-1</h3>",
        "<svg",
        "<span class=\"del\">-        max_concurrent_streams: 100</span>",
        "<span class=\"add\">+        max_concurrent_streams: 273</span>",
        "prefers-color-scheme:dark",
    ] {
        assert!(page.contains(words), "{words} is not in the page");
    }
    assert!(!page.contains("<script"), "it works without scripts");
}
