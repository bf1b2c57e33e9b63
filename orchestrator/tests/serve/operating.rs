//! What operators are given names metrics that there are: alert rules, the dashboard, and
//! the guide, which leaves none out.

use crate::common::home;
use crate::server::{Server, with_tree};
use std::collections::BTreeSet;

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = ["faas_", "lwc_", "http_requests", "process_"];
    words
        .filter(|w| ours.iter().any(|o| w.starts_with(o)))
        .collect()
}

/// `name="value"` and `name=~"a|b"` in a text, each value by itself.
fn labels(text: &str) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("=\"").chain(text.match_indices("=~\"")) {
        let before = &text[..at].trim_end_matches('!');
        let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = name.clone().next().unwrap_or_default();
        let value = text[at..].split('"').nth(1).unwrap_or_default();
        found.extend(value.split('|').map(|v| (name, v)));
    }
    found
}

#[test]
fn each_metric_that_operators_are_told_of_is_there() {
    let server = Server::with(&with_tree(), &["--workers", "1"]);
    let metrics = server.get("/metrics");
    let metrics = String::from_utf8(metrics.body).unwrap();
    let there = names(&metrics);
    let known = labels(&metrics);
    let read = |path: &str| std::fs::read_to_string(home().join(path)).unwrap();
    // The dashboard's texts are JSON's.
    let dashboard = read("packaging/grafana/lwc-orchestrator.json").replace("\\\"", "\"");
    for (path, text) in [
        ("alerts", read("packaging/prometheus/alerts.yml")),
        ("dashboard", dashboard),
    ] {
        let named = names(&text);
        assert!(named.len() > 8, "{path}: {named:?}");
        for name in named {
            assert!(there.contains(name), "{path}: there is no {name}");
        }
        for (label, value) in labels(&text) {
            // Where it runs is the collector's to say, and which chain whoever looks.
            let foreign = ["job", "instance"].contains(&label) || value.starts_with('$');
            // One of them is, on this machine.
            let foreign = foreign || label == "mechanism";
            assert!(
                foreign || known.contains(&(label, value)),
                "{path}: there is no {label}={value:?}"
            );
        }
    }
    let guide = read("docs/operating.md");
    let told = names(&guide);
    let types = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    let types: Vec<&str> = types.filter_map(|l| l.split(' ').next()).collect();
    assert!(types.len() > 30, "{types:?}");
    for name in &types {
        assert!(told.contains(name), "the guide does not tell of {name}");
    }
    for name in told {
        assert!(
            types.contains(&name),
            "the guide tells of {name}, which is not there"
        );
    }
    let rules = read("packaging/prometheus/alerts.yml");
    let alerts = rules
        .lines()
        .filter_map(|l| l.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let told = guide.contains(&format!("`{alert}`")) || alert == "LwcGone";
        assert!(told, "the guide does not tell of {alert}");
    }
}
