//! A plan as one page, for a pull request.
//!
//! Goes in: [`HostPlan`]s and a picture of the fleet. Comes out: one HTML document. Invariant: it
//! needs neither another file nor a script, and every text in it is redacted and then escaped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::graph::Graph;
use crate::plan::{HostPlan, ResourceChange};
use crate::resource::{Action, Detail};
use crate::secret::Redactor;

/// From how many lines on a change is folded when the page is opened.
const FOLDED_FROM_LINES: usize = 60;

const STYLE: &str = include_str!("plan.css");

/// What a page shows.
#[derive(Debug)]
pub struct Page<'a> {
    /// The environment.
    pub environment: &'a str,
    /// When it was made, in words.
    pub made_at: &'a str,
    /// Who made it.
    pub made_by: &'a str,
    /// The commit of the project; empty outside of git.
    pub commit: &'a str,
    /// The plan of every host that answered.
    pub plans: &'a [HostPlan],
    /// Hosts that do not answer and are left out, with the reason.
    pub skipped: &'a [(String, String)],
    /// How each play that changes something is rolled out: name, hosts, and each key in words.
    pub plays: &'a [(String, usize, BTreeMap<String, String>)],
    /// The fleet.
    pub graph: Graph,
    /// Takes secrets out.
    pub redactor: &'a Redactor,
}

/// The page.
#[must_use]
pub fn render_page(page: Page<'_>) -> String {
    let mut graph = page.graph.clone();
    let changing = page.plans.iter().filter(|plan| !plan.is_empty());
    let changing: BTreeSet<&str> = changing.map(|plan| plan.host.as_str()).collect();
    graph.mark(&changing);
    let mut html = Html {
        text: String::new(),
        redactor: page.redactor,
    };
    html.head(&page);
    html.tiles(page.plans);
    html.rollout(page.plays);
    html.raw("<section><h2>Fleet</h2>\n<div class=\"fleet\">");
    // Whatever the picture says was escaped when it was drawn.
    let picture = page.redactor.redact(&graph.to_svg());
    html.raw(&picture);
    html.raw("</div>\n");
    if !changing.is_empty() {
        html.raw("<p class=\"quiet\">Hosts with a thick border change.</p>\n");
    }
    html.raw("</section>\n<section><h2>Hosts</h2>\n");
    html.hosts(page.plans);
    for (host, why) in page.skipped {
        html.raw("<article class=\"card\"><h3>");
        html.words(host);
        html.raw("</h3><p>Left out: ");
        html.words(why);
        html.raw("</p></article>\n");
    }
    html.raw("</section>\n</main>\n</body>\n</html>\n");
    html.text
}

struct Html<'a> {
    text: String,
    redactor: &'a Redactor,
}

impl Html<'_> {
    fn raw(&mut self, html: &str) {
        self.text.push_str(html);
    }

    fn words(&mut self, words: &str) {
        let redacted = self.redactor.redact(words);
        self.text.push_str(&escape(&redacted));
    }

    fn badge(&mut self, class: &str, words: &str) {
        let _ = write!(self.text, "<span class=\"badge {class}\">");
        self.words(words);
        self.raw("</span>");
    }

    fn head(&mut self, page: &Page<'_>) {
        self.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        self.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        self.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>Plan: ");
        self.words(page.environment);
        self.raw("</title>\n<style>\n");
        self.raw(STYLE);
        self.raw(
            "</style>\n</head>\n<body>\n<main>\n<header><p class=\"kicker\">provision plan</p><h1>",
        );
        self.words(page.environment);
        self.raw("</h1><p class=\"quiet\">Made ");
        self.words(page.made_at);
        self.raw(" by ");
        self.words(page.made_by);
        if !page.commit.is_empty() {
            self.raw(" from commit <code>");
            self.words(page.commit);
            self.raw("</code>");
        }
        self.raw("</p></header>\n");
    }

    fn tiles(&mut self, plans: &[HostPlan]) {
        let changes = || plans.iter().flat_map(|plan| &plan.changes);
        let hosts = plans.iter().filter(|plan| !plan.is_empty()).count();
        let count =
            |wanted: fn(&ResourceChange) -> bool| changes().filter(|one| wanted(one)).count();
        let removed = count(|one| one.change.action == Action::Remove);
        let lasting = count(|one| one.change.irreversible);
        let later = count(|one| one.unknown_after.is_some())
            + plans.iter().map(|plan| plan.undecided.len()).sum::<usize>();
        let total = changes().count();
        self.raw("<ul class=\"tiles\">");
        let of_hosts = format!("of {} hosts change", plans.len());
        for (class, number, words) in [
            ("", total, if total == 1 { "change" } else { "changes" }),
            ("", hosts, of_hosts.as_str()),
            ("red", removed, "removed or put back"),
            ("amber", lasting, "cannot be rolled back"),
            ("blue", later, "known for certain only later"),
        ] {
            let class = if number == 0 { "none" } else { class };
            let _ = write!(
                self.text,
                "<li class=\"{class}\"><b>{number}</b><span>{words}</span></li>"
            );
        }
        self.raw("</ul>\n");
    }

    fn rollout(&mut self, plays: &[(String, usize, BTreeMap<String, String>)]) {
        if plays.is_empty() {
            return;
        }
        self.raw("<section><h2>Rollout</h2>\n<ol class=\"plays\">");
        for (play, hosts, pace) in plays {
            self.raw("<li><b>");
            self.words(play);
            let noun = if *hosts == 1 { "host" } else { "hosts" };
            let _ = write!(
                self.text,
                "</b> <span class=\"quiet\">{hosts} {noun}</span><dl>"
            );
            for (key, words) in pace {
                self.raw("<div><dt>");
                self.words(key);
                self.raw("</dt><dd>");
                self.words(words);
                self.raw("</dd></div>");
            }
            self.raw("</dl></li>\n");
        }
        self.raw("</ol></section>\n");
    }

    /// Hosts whose changes are word for word the same are shown once.
    fn hosts(&mut self, plans: &[HostPlan]) {
        let mut bodies: Vec<(String, Vec<&HostPlan>)> = Vec::new();
        for plan in plans.iter().filter(|plan| !plan.is_empty()) {
            let mut body = Html {
                text: String::new(),
                redactor: self.redactor,
            };
            body.changes(plan);
            match bodies.iter_mut().find(|(known, _)| *known == body.text) {
                Some((_, plans)) => plans.push(plan),
                None => bodies.push((body.text, vec![plan])),
            }
        }
        for (body, plans) in &bodies {
            self.raw("<article class=\"card\"><h3>");
            for (number, plan) in plans.iter().enumerate() {
                self.raw(if number == 0 { "" } else { ", " });
                self.words(&plan.host);
            }
            self.raw("</h3>");
            if let Some(plan) = plans.first() {
                self.counts(plan);
            }
            self.raw(body);
            self.raw("</article>\n");
        }
        let settled: Vec<&HostPlan> = plans.iter().filter(|plan| plan.is_empty()).collect();
        if !settled.is_empty() {
            self.raw("<article class=\"card settled\"><h3>");
            for (number, plan) in settled.iter().enumerate() {
                self.raw(if number == 0 { "" } else { ", " });
                self.words(&plan.host);
            }
            self.raw("</h3><p class=\"quiet\">As described: nothing to do.</p></article>\n");
        }
    }

    fn counts(&mut self, plan: &HostPlan) {
        let mut counts: BTreeMap<&str, (usize, Action)> = BTreeMap::new();
        for entry in &plan.changes {
            let action = entry.change.action;
            counts.entry(action.word()).or_insert((0, action)).0 += 1;
        }
        self.raw("<p class=\"counts\">");
        for (word, (count, action)) in counts {
            self.badge(colour(action), &format!("{count} {word}"));
        }
        self.raw("</p>");
    }

    fn changes(&mut self, plan: &HostPlan) {
        let mut play = "";
        for entry in &plan.changes {
            if entry.play != play {
                play = &entry.play;
                self.raw("<h4>");
                self.words(&format!("play {play}"));
                self.raw("</h4>\n");
            }
            self.change(entry);
        }
        for undecided in &plan.undecided {
            self.raw("<p class=\"line\">");
            self.badge("blue", "? undecided");
            self.raw(" <code>");
            self.words(&undecided.resource);
            self.raw("</code> is looked at again; now: ");
            self.words(&undecided.refusal.message);
            self.raw("</p>\n");
        }
        for stays in &plan.stays {
            self.raw("<p class=\"line\">");
            self.badge("none", "stays");
            self.raw(" ");
            self.words(stays);
            self.raw("</p>\n");
        }
    }

    fn change(&mut self, entry: &ResourceChange) {
        let change = &entry.change;
        let lines = |detail: &Detail| match detail {
            Detail::Text(text) => text.lines().count(),
            Detail::Field { .. } | Detail::Note(_) => 1,
        };
        let lines: usize = change.details.iter().map(lines).sum();
        // The text of a new file is all new, and seldom what a reader looks for first.
        let folded = lines >= FOLDED_FROM_LINES
            || (change.action == Action::Create && lines > change.details.len());
        let open = if folded { "" } else { " open" };
        let tag = if change.details.is_empty() {
            "div"
        } else {
            "details"
        };
        let _ = write!(
            self.text,
            "<{tag} class=\"change\"{}>",
            if tag == "div" { "" } else { open }
        );
        self.raw(if tag == "div" {
            "<div class=\"summary\">"
        } else {
            "<summary>"
        });
        let sign = format!("{} {}", change.action.sign(), change.action.word());
        self.badge(colour(change.action), &sign);
        self.raw(" <code>");
        self.words(&entry.resource);
        self.raw("</code>");
        if change.irreversible {
            self.badge("amber", "cannot be rolled back");
        }
        if let Some(after) = &entry.unknown_after {
            self.badge("blue", &format!("known for certain after {after}"));
        }
        if entry.left_playbook {
            self.badge("red", "left the playbook");
        }
        self.raw(if tag == "div" {
            "</div>"
        } else {
            "</summary>\n"
        });
        for detail in &change.details {
            self.detail(detail);
        }
        let _ = writeln!(self.text, "</{tag}>");
    }

    fn detail(&mut self, detail: &Detail) {
        match detail {
            Detail::Field { name, from, to } => {
                self.raw("<p class=\"field\"><span>");
                self.words(name);
                self.raw("</span> ");
                if let Some(from) = from {
                    self.raw("<del>");
                    self.words(from);
                    self.raw("</del> → ");
                }
                self.raw("<ins>");
                self.words(to);
                self.raw("</ins></p>\n");
            }
            Detail::Note(note) => {
                self.raw("<p class=\"field\">");
                self.words(note);
                self.raw("</p>\n");
            }
            Detail::Text(diff) => {
                // A secret may go over several lines, so all of it is redacted at once.
                let diff = self.redactor.redact(diff);
                self.raw("<pre>");
                for line in diff.lines() {
                    let class = match line.chars().next() {
                        Some('+') => "add",
                        Some('-') => "del",
                        Some('@') => "at",
                        _ => "same",
                    };
                    let line = escape(line);
                    // Each is a block, so a line end between two would be an empty line.
                    let _ = write!(self.text, "<span class=\"{class}\">{line}</span>");
                }
                self.raw("</pre>\n");
            }
        }
    }
}

/// The colour of an action: the same as on a terminal.
const fn colour(action: Action) -> &'static str {
    match action {
        Action::Remove => "red",
        Action::Create | Action::Install | Action::Format => "green",
        _ => "amber-light",
    }
}

fn escape(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Name;
    use crate::resource::Change;
    use crate::secret::{Secret, Secrets};

    fn page(redactor: &Redactor) -> String {
        let entry = |resource: &str, change: Change| ResourceChange {
            resource: resource.to_owned(),
            play: "gateways".to_owned(),
            unknown_after: None,
            left_playbook: false,
            change,
        };
        let mut file = Change::new(Action::Update);
        let text = "@@ -1,2 +1,2 @@\n-<old> & \"old\"\n+key: correct/horse<battery\n same\n";
        file.details = vec![
            Detail::changed("mode", "0644", "0600"),
            Detail::Text(text.to_owned()),
        ];
        let mut package = Change::new(Action::Install);
        package.irreversible = true;
        let mut later = entry("service <app>", Change::new(Action::Restart));
        later.unknown_after = Some("package app".to_owned());
        let plan = |host: &str| HostPlan {
            host: host.to_owned(),
            changes: vec![
                entry("package app", package.clone()),
                entry("file /etc/app.conf", file.clone()),
                later.clone(),
            ],
            refusals: Vec::new(),
            undecided: Vec::new(),
            stays: vec!["user old stays".to_owned()],
        };
        let mut settled = plan("c");
        settled.changes.clear();
        let pace = BTreeMap::from([("serial".to_owned(), "1, 50%".to_owned())]);
        render_page(Page {
            environment: "production",
            made_at: "2026-01-02T03:04:05Z",
            made_by: "ada@desk",
            commit: "0123456789ab+",
            plans: &[plan("a"), plan("b"), settled],
            skipped: &[("d".to_owned(), "d cannot be reached".to_owned())],
            plays: &[("gateways".to_owned(), 2, pace)],
            graph: Graph {
                title: "production".to_owned(),
                groups: Vec::new(),
                paths: Vec::new(),
                entries: BTreeMap::new(),
            },
            redactor,
        })
    }

    #[test]
    fn a_page_says_all_and_needs_nothing_else() {
        let page = page(&Redactor::default());
        assert!(
            page.contains("<h3>a, b</h3>"),
            "hosts that are alike are shown once"
        );
        for words in [
            "cannot be rolled back</span>",
            "known for certain after package app</span>",
            "<dt>serial</dt><dd>1, 50%</dd>",
            "user old stays",
            "Left out: d cannot be reached",
            "<del>0644</del> → <ins>0600</ins>",
            "<li class=\"amber\"><b>2</b>",
            "<span class=\"del\">-&lt;old&gt; &amp; &quot;old&quot;</span>",
            "service &lt;app&gt;",
        ] {
            assert!(page.contains(words), "{words} is not in {page}");
        }
        for other in ["<script", "src=", "href=", "@import", "url(http"] {
            assert!(!page.contains(other), "{other}");
        }
        let opened = |tag: &str| page.matches(&format!("<{tag}")).count();
        let closed = |tag: &str| page.matches(&format!("</{tag}>")).count();
        for tag in ["details", "article", "section", "pre", "ul", "main"] {
            assert_eq!(opened(tag), closed(tag), "{tag}");
        }
    }

    #[test]
    fn a_secret_is_taken_out_before_escaping_would_hide_it() {
        let name: Name = "key".parse().unwrap();
        let secrets = Secrets::of([(name, Secret::from("correct/horse<battery".to_owned()))]);
        let page = page(&Redactor::new(&secrets));
        assert!(!page.contains("battery"), "{page}");
    }
}
