//! Every cell of every workload runs, if only for some milliseconds. No figure is judged.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_larder-bench")).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_cell_runs_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("scratch");
    let (json, markdown) = (dir.path().join("all.json"), dir.path().join("all.md"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let printed = bench(&[
        "spool",
        "--smoke",
        "--dir",
        &text(&scratch),
        "--json",
        &text(&json),
        "--markdown",
        &text(&markdown),
    ]);

    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = results["rows"].as_array().unwrap();
    let of = |key: &str, row: &Value| row[key].as_str().unwrap().to_owned();
    let workloads: BTreeSet<_> = rows.iter().map(|row| of("workload", row)).collect();
    let all = ["calm", "enumerate", "load", "memory", "open", "queue", "store"];
    assert_eq!(workloads, all.map(str::to_owned).into());
    let stores: BTreeSet<_> = rows
        .iter()
        .filter(|row| row["workload"] == "store")
        .map(|row| (of("cell", row), of("subject", row)))
        .collect();
    let count = |which: fn(&(String, String)) -> &String| {
        stores.iter().map(which).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(stores.len(), count(|(cell, _)| cell) * count(|(_, subject)| subject));
    assert!(stores.contains(&("1 KiB x 1".into(), "larder, blocking".into())));
    for row in rows {
        let figures = row["figures"].as_object().unwrap();
        let rate = figures.get("ops_per_s").map(|rate| rate.as_f64().unwrap());
        assert!(rate.is_none_or(|rate| rate > 0.0), "{row}");
        assert!(!figures.is_empty(), "{row}");
    }

    let written = std::fs::read_to_string(&markdown).unwrap();
    assert_eq!(printed.trim_end(), written.trim_end());
    assert!(written.contains("| subject"), "{written}");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left behind");

    // Two runs as one: medians of both.
    let merged = bench(&["report", &text(&json), &text(&json)]);
    assert_eq!(merged.trim_end().lines().count(), written.trim_end().lines().count());
}

#[test]
fn every_cell_of_the_cache_runs_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("all.json");
    // Without redis-server it fails, and says how to install it.
    let printed = bench(&["cache", "--smoke", "--json", json.to_str().unwrap()]);
    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = results["rows"].as_array().unwrap();
    let of = |workload: &str| {
        let rows: Vec<_> = rows.iter().filter(|row| row["workload"] == workload).collect();
        assert!(!rows.is_empty(), "{workload}");
        rows
    };
    let far = of("far");
    // The bare client, the tier and the cache, and hitbox where it was built.
    let peers = far.iter().filter(|row| row["subject"].as_str().unwrap().starts_with("hitbox"));
    assert_eq!(far.len() - peers.count(), 4 * 3);
    for row in far {
        assert!(row["figures"]["ops_per_s"].as_f64().unwrap() > 0.0, "{row}");
        let near = row["figures"]["hits_near"].as_f64().unwrap();
        assert!(near < 0.1, "hits were near: {row}");
    }
    for row in of("hit") {
        assert!(row["figures"]["ns_per_op"].as_f64().unwrap() > 0.0, "{row}");
        // The one figure that does not depend on the machine.
        if ["larder", "larder, get_now", "larder, handles in handles"]
            .contains(&row["subject"].as_str().unwrap())
        {
            assert_eq!(row["figures"]["allocations_per_op"].as_f64(), Some(0.0), "{row}");
        }
    }
    for row in of("ratio") {
        let hits = row["figures"]["hits_percent"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&hits), "{row}");
    }
    for row in of("stampede") {
        assert_eq!(row["figures"]["most_loads_of_a_key"].as_f64(), Some(1.0), "{row}");
    }
    let stopped: Vec<_> =
        of("outage").into_iter().filter(|row| row["subject"] == "larder, server stopped").collect();
    assert_eq!(stopped.len(), 1);
    for figure in ["hung", "failed"] {
        assert_eq!(stopped[0]["figures"][figure].as_f64(), Some(0.0), "{}", stopped[0]);
    }
    assert!(stopped[0]["figures"]["owed_keys"].as_f64().unwrap() > 0.0, "{}", stopped[0]);
    assert!(printed.contains("| larder "), "{printed}");
}

#[test]
fn every_cell_of_consensus_runs_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("all.json");
    let folder = dir.path().to_str().unwrap();
    // Without the servers it fails, and says how to install them.
    let printed =
        bench(&["consensus", "--smoke", "--dir", folder, "--json", json.to_str().unwrap()]);
    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = results["rows"].as_array().unwrap();
    let count = |workload: &str| rows.iter().filter(|row| row["workload"] == workload).count();
    // Seven subjects and four numbers of writers; heads of those that have some, but for one.
    assert_eq!((count("swap"), count("head")), (7 * 4, 5));
    for row in rows {
        assert!(row["figures"]["ops_per_s"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(printed.contains("| larder, etcd "), "{printed}");
}
