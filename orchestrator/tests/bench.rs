//! `bench` from end to end. What it measures is not looked at here: tests do
//! not depend on speed.

mod common;

use common::{orchestrator, text};
use serde_json::Value;

/// Every table and series is there, and every figure is a positive number.
fn check(report: &Value, tables: usize, series: &[&str]) {
    assert_eq!(report["version"], 1);
    assert_eq!(report["quick"], true);
    assert!(report["system"]["backend"].is_string());
    // A machine with one processor has no second one to measure.
    let alone = report["system"]["processors"] == 1;
    // Nor one whose system cannot roll back in place.
    let rollback = report["system"]["rollback"].as_str().unwrap();
    let never = rollback.starts_with("new-copy");
    assert!(
        never || ["userfaultfd", "module"].contains(&rollback),
        "{rollback}"
    );
    let skipped = report["skipped"].as_array().unwrap();
    assert_eq!(
        skipped.len(),
        // Threads are counted by who rolls back.
        usize::from(alone) + 2 * usize::from(never),
        "{skipped:?}"
    );
    let series = series
        .iter()
        .filter(|s| !never || !s.starts_with("rollback-"));
    let series: Vec<&str> = series.copied().collect();
    let found = report["tables"].as_array().unwrap();
    assert_eq!(
        found.len(),
        tables - usize::from(alone) - usize::from(never)
    );
    for row in found.iter().flat_map(|t| t["rows"].as_array().unwrap()) {
        let median = row["median_ns"].as_f64().unwrap();
        assert!(median > 0.0, "{row}");
        if let Some(ratio) = row["ratio"].as_object() {
            assert!(ratio["value"].as_f64().unwrap() > 0.0, "{row}");
            assert!(!ratio["of"].as_str().unwrap().is_empty());
        }
    }
    let found = report["series"].as_array().unwrap();
    let names: Vec<&str> = found.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, series);
    for line in found.iter().flat_map(|s| s["lines"].as_array().unwrap()) {
        let points = line["points"].as_array().unwrap();
        assert!(!points.is_empty(), "{line}");
        assert!(points.iter().all(|p| p[1].as_f64().unwrap() > 0.0));
    }
}

#[test]
fn a_quick_run_measures_everything_and_writes_json_and_plots() {
    let folder = tempfile::tempdir().unwrap();
    let plots = folder.path().join("plots");
    let output = orchestrator()
        .args(["bench", "--quick", "--scaling", "--json", "-", "--plots"])
        .arg(&plots)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let series = [
        "contexts",
        "dirty-pages",
        "rollback-pages",
        "rollback-resident",
        "payload",
        "chain-length",
        "scaling-contexts",
        "scaling-memory",
        "scaling-chains",
        "scaling-processors",
    ];
    check(&report, 11, &series);
    let found = report["series"].as_array().unwrap().iter();
    for name in found.map(|s| s["name"].as_str().unwrap()) {
        let svg = std::fs::read_to_string(plots.join(format!("{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(
            svg.contains("<polyline") || svg.contains("<circle"),
            "{name}"
        );
    }
}

#[test]
fn without_a_compiler_the_rest_is_measured_and_the_reason_told() {
    let output = orchestrator()
        .args(["bench", "--quick", "--markdown", "-"])
        .env("CC", "there-is-no-such-compiler")
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(said.contains("| lwSwitch |"), "{said}");
    let why = said.lines().find(|l| l.contains("Not measured: a chain"));
    assert!(why.unwrap().contains("there-is-no-such-compiler"), "{said}");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
    let output = orchestrator()
        .args(["bench", "--quick", "--json", "/no/such/folder/file"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/no/such/folder/file"));
}
