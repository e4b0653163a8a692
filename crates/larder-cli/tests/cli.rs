//! The command line of the real binary: every command, and everything that is refused.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use serde_json::json;
use support::{Daemon, larder, log_uri, picture, run, run_with};

const ID: &str = "0190a1b2c3d47000800000000000abcd";

#[test]
fn payloads_go_through_a_spool_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("spool"));
    let payload: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let id = run_with(&["spool", "put", &uri, "-"], &payload).ok().text();
    let id = id.trim();
    assert_eq!(id.len(), 32);
    assert_eq!(run(&["spool", "get", &uri, id]).ok().stdout, payload);

    let data = &run(&["spool", "get", &uri, id, "--json"]).ok().objects()[0]["data"];
    assert!(data.as_str().unwrap().starts_with("AAECAwQF"));

    let empty = run_with(&["spool", "put", &uri], b"").ok().text();
    assert!(run(&["spool", "get", &uri, empty.trim()]).ok().stdout.is_empty());

    let listing = run(&["spool", "ls", &uri]).ok().text();
    assert!(listing.lines().any(|line| line.starts_with(&format!("{id} 70000 20"))), "{listing}");
    assert!(listing.ends_with("complete: 2 items, 0 corrupt\n"));
    let objects = run(&["spool", "ls", &uri, "--json"]).ok().objects();
    assert_eq!(objects[2], json!({ "complete": true, "items": 2, "corrupt": 0 }));
    assert!(objects[..2].iter().any(|entry| entry["id"] == id && entry["size"] == 70_000));

    let stats = run(&["spool", "stat", &uri, "--json"]).ok().objects();
    assert_eq!((&stats[0]["entries"], &stats[0]["bytes"]), (&json!(2), &json!(70_000)));

    run(&["spool", "rm", &uri, id]).ok();
    run(&["spool", "rm", &uri, id, "--no-sync"]).ok();
    run(&["spool", "get", &uri, id]).fails(3, id);
    run(&["spool", "compact", &uri, "--json"]).ok();
    assert_eq!(run(&["spool", "verify", &uri]).ok().text(), "1 items, 0 bytes, 0 corrupt\n");
    let nothing = run(&["spool", "acknowledge", &uri]).ok().text();
    assert_eq!(nothing, "nothing to acknowledge\n");
    run(&["spool", "repair", &uri]).fails(2, "nothing to repair");
}

#[test]
fn what_is_acknowledged_is_told_place_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let (place, file) = (folder.path().join("mail"), folder.path().join("file"));
    fs::write(&file, vec![7; 9000]).unwrap();
    let uri = format!("{}?segment=8KiB", log_uri(&place));
    for _ in 0..4 {
        run(&["spool", "put", &uri, file.to_str().unwrap()]).ok();
    }
    for lost in [1, 2] {
        fs::remove_file(place.join(format!("seg-{lost:016x}.log"))).unwrap();
    }
    let told = run(&["spool", "acknowledge", &uri, "--json"]).ok().objects();
    let [first, second, count] = &told[..] else { panic!("{told:?}") };
    for (place, segment) in [(first, "segment 1 "), (second, "segment 2 ")] {
        let text = place["damage"].as_str().unwrap();
        assert!(text.starts_with(segment) && text.contains("missing"), "{text}");
    }
    assert_eq!(count["acknowledged"], 2);
    let again = run(&["spool", "acknowledge", &uri]).ok().text();
    assert_eq!(again, "nothing to acknowledge\n");
}

#[test]
fn a_folder_is_put_file_by_file_and_copied_under_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs::create_dir_all(files.join("deep/er")).unwrap();
    for number in 0..300 {
        let name = if number % 3 == 0 { "deep/er/file" } else { "file" };
        fs::write(files.join(format!("{name} {number}")), format!("content {number}")).unwrap();
    }
    symlink("/etc/hostname", files.join("link")).unwrap();
    let uri = log_uri(&folder.path().join("spool"));
    let stored = run(&["spool", "put", &uri, files.to_str().unwrap()]).ok().text();
    assert_eq!(stored.lines().count(), 300);
    for line in stored.lines().take(10) {
        let (id, path) = line.split_once(' ').unwrap();
        assert_eq!(run(&["spool", "get", &uri, id]).ok().stdout, fs::read(path).unwrap());
    }

    let other = log_uri(&folder.path().join("other"));
    let copied = run(&["spool", "copy", &uri, &other, "--json"]).ok().objects();
    assert_eq!(copied[0], json!({ "copied": 300, "failed": 0, "complete": true }));
    let lines = |uri: &str| {
        let mut lines: Vec<String> =
            run(&["spool", "ls", uri]).ok().text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&uri), lines(&other));
}

#[test]
fn one_file_that_cannot_be_stored_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("small"), "small").unwrap();
    fs::write(files.join("large"), vec![0; 200_000]).unwrap();
    let uri = format!("{}?max_payload=64KiB", log_uri(&folder.path().join("spool")));
    let stored = run(&["spool", "put", &uri, files.to_str().unwrap()]);
    assert_eq!((stored.code, stored.text().lines().count()), (1, 1), "{}", stored.stderr);
    assert!(stored.stderr.contains("large: the payload is too large"), "{}", stored.stderr);
    assert!(stored.stderr.contains("1 of 2 files were not stored"), "{}", stored.stderr);
}

#[test]
fn a_compare_and_set_prints_the_seqno_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("state"));
    let cas = |expected: &str, seqno: &str, data: &[u8]| {
        let flags = ["--expected", expected, "--seqno", seqno, "-"];
        run_with(&[&["consensus", "cas", &uri, "leader"], &flags[..]].concat(), data)
    };
    assert_eq!(cas("none", "1", b"v1").ok().text(), "1\n");
    let lost = cas("none", "7", b"v2");
    assert_eq!((lost.code, lost.text().as_str()), (4, "1\n"));
    lost.fails(4, "the seqno is 1");
    assert_eq!(cas("1", "5", &[0, 255]).ok().text(), "5\n");
    let next = run_with(&["consensus", "cas", &uri, "leader", "--expected", "5"], b"v6").ok();
    assert_eq!(next.text(), "6\n");

    let head = run(&["consensus", "head", &uri, "leader"]).ok();
    assert_eq!((head.stdout.as_slice(), head.stderr.as_str()), (b"v6".as_ref(), "seqno 6\n"));
    let head = run(&["consensus", "head", &uri, "leader", "--json"]).ok();
    assert_eq!(head.objects()[0], json!({ "seqno": 6, "data": "djY=" }));
    run(&["consensus", "head", &uri, "nobody"]).fails(3, "no data");

    let scan = run(&["consensus", "scan", &uri, "leader", "--from", "2", "--limit", "1"]).ok();
    assert_eq!(scan.text(), "5 AP8=\n");
    assert_eq!(run(&["consensus", "keys", &uri]).ok().text(), "leader\n");
    let watched = run(&["consensus", "watch", &uri, "leader", "--after", "5", "--count", "1"]);
    assert_eq!(watched.ok().text(), "6 djY=\n");
    let watch = ["consensus", "watch", &uri, "leader", "--after", "6", "--within", "200ms"];
    run(&watch).fails(4, "no newer head within 200ms");
    assert_eq!(run(&["consensus", "truncate", &uri, "leader", "--seqno", "6"]).ok().text(), "2\n");
    run(&["consensus", "truncate", &uri, "leader", "--seqno", "7"]).fails(4, "above the head");
    run(&["consensus", "truncate", &uri, "nobody", "--seqno", "0"]).fails(3, "no data");
}

#[test]
fn a_cache_in_memory_forgets_with_its_process() {
    run_with(&["cache", "put", "memory:", "k", "-", "--ttl", "30s"], b"v").ok();
    run(&["cache", "get", "memory:", "k"]).fails(3, "no entry");
    run(&["cache", "rm", "memory:", "k"]).fails(3, "no entry");
    run(&["cache", "stat", "memory:", "k"]).fails(3, "no entry");
    let usage = run(&["cache", "stat", "memory:?capacity=1MiB", "--json"]).ok();
    assert_eq!(usage.objects()[0]["capacity"], 1 << 20);
}

#[test]
fn a_cache_on_disk_remembers_beyond_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("log:{}?capacity=8MiB", folder.path().join("cache").display());
    run(&["cache", "get", &uri, "k"]).fails(3, "there is no folder");
    run_with(&["cache", "put", &uri, "k", "-", "--ttl", "1h"], b"value").ok();
    assert_eq!(run(&["cache", "get", &uri, "k"]).ok().stdout, b"value");
    let stat = run(&["cache", "stat", &uri, "k", "--json"]).ok();
    assert_eq!(stat.objects()[0]["size"], 5);
    let usage = run(&["cache", "stat", &uri, "--json"]).ok();
    assert_eq!(
        (&usage.objects()[0]["entries"], &usage.objects()[0]["capacity"]),
        (&1.into(), &(8 << 20).into())
    );
    run(&["cache", "rm", &uri, "k"]).ok();
    run(&["cache", "get", &uri, "k"]).fails(3, "no entry");
    // A folder belongs to one contract.
    run_with(&["spool", "put", &uri.replace("?capacity=8MiB", ""), "-"], b"mail")
        .fails(1, "holds a cache");
}

#[test]
fn a_backend_is_checked_against_its_contract_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("place"));
    let in_memory = ["needs reopen", "needs second-open", "needs tight-place"];
    let spool = [&["needs payload-limit"][..], &in_memory].concat();
    let cache = [&["needs clock", "needs outage"][..], &in_memory].concat();
    for (uri, contract, lacks) in [
        (uri.as_str(), "consensus", &[][..]),
        (&uri, "spool", &["needs damage"]),
        (&uri, "cache", &["needs clock", "needs damage", "needs outage"]),
        ("memory:", "spool", &spool),
        ("memory:", "cache", &cache),
        ("memory:", "consensus", &["needs reopen", "needs second-open"]),
    ] {
        let ran = support::service::check_holds(uri, contract, 21, lacks);
        assert!(ran.objects()[0]["law"].is_string());
    }
    support::check_that_fails(&format!("{uri}?max_payload=1KiB"), "consensus");
    assert!(!folder.path().join("place").exists());
}

#[test]
fn a_check_that_is_interrupted_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("place"));
    for contract in ["consensus", "spool", "cache"] {
        support::check_that_is_interrupted(&uri, contract);
        assert!(!folder.path().join("place").exists(), "{contract}");
    }
}

#[test]
fn a_benchmark_ends_with_its_numbers_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("place"));
    let flags = ["--contract", "spool", "--seconds", "1", "--concurrency", "8", "--baseline"];
    let ran = run(&[&["bench", &uri], &flags[..]].concat()).ok().text();
    let last: serde_json::Value = serde_json::from_str(ran.lines().last().unwrap()).unwrap();
    let positive = [
        "ops_per_s",
        "p50_us",
        "p99_us",
        "p999_us",
        "cpu_us_per_op",
        "baseline_ops_per_s",
        "baseline_p50_us",
        "ratio_to_baseline",
    ];
    for name in positive {
        assert!(last[name].as_f64().unwrap() > 0.0, "{name}: {last}");
    }
    assert!(last.as_object().unwrap().contains_key("device_bytes_per_payload_byte"));
    assert_eq!(
        (&last["errors"], &last["op"], &last["size"]),
        (&json!(0), &json!("store"), &json!(1024))
    );
    assert!(!folder.path().join("place").exists());

    for (uri, contract, op) in [
        (uri.as_str(), "spool", "queue"),
        (uri.as_str(), "spool", "load"),
        (uri.as_str(), "consensus", "cas"),
        ("memory:", "consensus", "head"),
        ("memory:", "cache", "get"),
        ("memory:", "cache", "put"),
    ] {
        let flags = ["--contract", contract, "--op", op, "--seconds", "1", "--json"];
        let ran = run(&[&["bench", uri], &flags[..]].concat()).ok().objects();
        assert_eq!((ran.len(), &ran[0]["op"], &ran[0]["errors"]), (1, &json!(op), &json!(0)));
    }
}

#[test]
fn a_folder_is_verified_and_dumped_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("spool");
    let path = place.to_str().unwrap();
    let id = run_with(&["spool", "put", &log_uri(&place)], b"payload").ok().text();
    let before = picture(&place);
    let report = run(&["verify", path, "--json"]).ok().objects();
    assert_eq!((&report[0]["sound"], &report[0]["entries"]), (&json!(true), &json!(1)));
    assert!(run(&["verify", path]).ok().text().ends_with("\nsound\n"));
    let dump = run(&["dump", path]).ok().text();
    assert!(dump.contains(id.trim()), "{dump}");
    assert!(run(&["dump", path, "--json"]).ok().objects().iter().any(|item| item["kind"] == "put"));
    assert_eq!(picture(&place), before);

    let segment = before
        .iter()
        .map(|(path, ..)| path)
        .find(|path| path.extension().is_some_and(|e| e == "log"));
    let segment = segment.unwrap();
    let data = fs::read(segment).unwrap();
    let at = data.windows(7).position(|window| window == b"payload").unwrap();
    let mut damaged = data.clone();
    damaged[at] ^= 1;
    fs::write(segment, &damaged).unwrap();
    let report = run(&["verify", path]);
    assert!(report.text().ends_with("\ndamaged\n"));
    report.fails(1, "entries lost: 1");
    assert_eq!(fs::read(segment).unwrap(), damaged);
    let listing = run(&["spool", "ls", &log_uri(&place), "--json"]).ok().objects();
    assert_eq!(listing.last().unwrap()["complete"], true);
    run(&["spool", "verify", &log_uri(&place)]);
    run(&["spool", "get", &log_uri(&place), id.trim()]).fails(1, "damaged");
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let commands: &[&[&str]] = &[
        &[],
        &["serve"],
        &["cache", "get"],
        &["cache", "put"],
        &["cache", "rm"],
        &["cache", "stat"],
        &["spool", "put"],
        &["spool", "get"],
        &["spool", "rm"],
        &["spool", "ls"],
        &["spool", "stat"],
        &["spool", "compact"],
        &["spool", "verify"],
        &["spool", "copy"],
        &["spool", "repair"],
        &["spool", "acknowledge"],
        &["consensus", "head"],
        &["consensus", "cas"],
        &["consensus", "scan"],
        &["consensus", "truncate"],
        &["consensus", "keys"],
        &["consensus", "watch"],
        &["check"],
        &["bench"],
        &["verify"],
        &["dump"],
        &["config", "check"],
    ];
    for command in commands {
        let help = run(&[command, &["--help"][..]].concat()).ok().text();
        assert!(help.contains("Example"), "{command:?}: {help}");
        let example = format!("larder {}", command.join(" "));
        assert!(help.matches(example.trim_end()).count() > 1, "{command:?}: {help}");
    }
}

/// What is wrong, the arguments, the exit code and words that the one line on stderr must have.
/// `{D}` is a folder of the test, and nothing in it may change.
const REFUSED: &[(&str, &[&str], i32, &str)] = &[
    ("no command", &[], 2, "a command is missing"),
    ("unknown command", &["frobnicate"], 2, "unrecognized subcommand"),
    ("misspelt command", &["spol"], 2, "spool"),
    ("unknown flag", &["spool", "ls", "memory:", "--fast"], 2, "--fast"),
    ("no scheme", &["spool", "ls", "spool"], 2, "has to begin with a scheme"),
    ("unknown scheme", &["spool", "ls", "logg:{D}"], 2, "unknown scheme \"logg\""),
    (
        "scheme of another contract",
        &["spool", "ls", "redis://127.0.0.1:1/0"],
        2,
        "unknown scheme \"redis\"",
    ),
    ("unknown parameter", &["spool", "put", "log:{D}/new?sgment=1MiB"], 2, "\"sgment\""),
    ("bad parameter", &["spool", "put", "log:{D}/new?segment=big"], 2, "segment=\"big\""),
    (
        "id that is not one",
        &["spool", "get", "log:{D}/spool", "123"],
        2,
        "\"123\" is not a spool id",
    ),
    ("id that is not there", &["spool", "get", "memory:", ID], 3, ID),
    ("folder that is not there", &["spool", "ls", "log:{D}/new"], 3, "there is no folder"),
    ("store that is not there", &["consensus", "keys", "log:{D}/new"], 3, "there is no folder"),
    ("no store to watch", &["consensus", "watch", "log:{D}/new", "k"], 3, "there is no folder"),
    ("file that is not there", &["spool", "put", "log:{D}/new", "{D}/none"], 3, "{D}/none"),
    ("file in place of a folder", &["spool", "put", "log:{D}/file"], 5, "is not a folder"),
    ("folder of something else", &["spool", "put", "log:{D}/foreign"], 5, "holds \"file\""),
    ("folder of a newer format", &["spool", "ls", "log:{D}/newer"], 1, "newer release"),
    ("verify: newer format", &["verify", "{D}/newer"], 1, "format version 2"),
    ("folder that takes no files", &["spool", "put", "log:/sys/larder"], 5, "/sys/larder"),
    ("ttl without a unit", &["cache", "put", "memory:", "k", "-", "--ttl", "30"], 2, "--ttl"),
    ("key with a control character", &["cache", "get", "memory:", ""], 2, "the key is empty"),
    ("cas without a condition", &["consensus", "cas", "log:{D}/new", "k"], 2, "--expected"),
    (
        "cas with a bad condition",
        &["consensus", "cas", "log:{D}/new", "k", "--expected", "x"],
        2,
        "none",
    ),
    (
        "seqno above i64::MAX",
        &[
            "consensus",
            "cas",
            "log:{D}/new",
            "k",
            "--expected",
            "none",
            "--seqno",
            "9223372036854775808",
        ],
        2,
        "seqno_max=9223372036854775807",
    ),
    (
        "seqno does not grow",
        &["consensus", "cas", "log:{D}/new", "k", "--expected", "5", "--seqno", "5"],
        2,
        "must be above the expected one",
    ),
    ("copy onto itself", &["spool", "copy", "log:{D}/spool", "log:{D}/spool"], 2, "onto itself"),
    ("check without a contract", &["check", "memory:"], 2, "--contract"),
    ("check of no contract", &["check", "memory:", "--contract", "queue"], 2, "queue"),
    (
        "bench: other contract's op",
        &["bench", "memory:", "--contract", "spool", "--op", "cas"],
        2,
        "no operation cas",
    ),
    (
        "bench: baseline of memory",
        &["bench", "memory:", "--contract", "spool", "--baseline"],
        2,
        "--baseline",
    ),
    ("verify: nothing there", &["verify", "{D}/none"], 3, "no log"),
    ("verify: a file", &["verify", "{D}/file"], 2, "is not a folder"),
    ("dump: nothing there", &["dump", "{D}/none"], 3, "no log"),
    ("config: not there", &["config", "check", "{D}/none"], 3, "{D}/none"),
    (
        "config: misspelt section",
        &["config", "check", "{D}/section.toml"],
        2,
        "section.toml:2: unknown field spol: did you mean spool?",
    ),
    (
        "config: misspelt field",
        &["config", "check", "{D}/field.toml"],
        2,
        "field.toml:2: unknown field url: did you mean uri?",
    ),
    (
        "config: unknown scheme",
        &["config", "check", "{D}/scheme.toml"],
        2,
        "consensus.uri: unknown scheme \"lag\"",
    ),
    (
        "config: unknown parameter",
        &["config", "check", "{D}/parameter.toml"],
        2,
        "spool.a.l1: unknown parameter \"sgment\"",
    ),
    (
        "config: tiered spool",
        &["config", "check", "{D}/tiered.toml"],
        2,
        "spool.a.l2: this release has no tiered spools",
    ),
    (
        "config: limits that exclude one another",
        &["config", "check", "{D}/limits.toml"],
        2,
        "limits.bodies",
    ),
    ("config: no TOML", &["config", "check", "{D}/file"], 2, "file:1: "),
    ("serve: misspelt config", &["serve", "--config", "{D}/field.toml"], 2, "did you mean uri?"),
    ("serve: other address", &["serve", "--listen", "0.0.0.0:0"], 2, "only loopback"),
    ("serve: no address", &["serve", "--listen", "here"], 2, "--listen"),
    (
        "serve: file as data",
        &["serve", "--listen", "127.0.0.1:0", "--data", "{D}/file"],
        5,
        "is not a folder",
    ),
    (
        "serve: read-only data",
        &["serve", "--listen", "127.0.0.1:0", "--data", "/sys/larder"],
        5,
        "/sys/larder",
    ),
    (
        "serve: newer format",
        &["serve", "--listen", "127.0.0.1:0", "--config", "{D}/newer.toml"],
        1,
        "newer release",
    ),
];

#[test]
fn bad_input_is_refused_in_one_line_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    prepare(folder.path());
    let picture = || {
        // Who tried last to lock a folder stands in its lock file.
        let mut files = picture(folder.path());
        files.retain(|(path, ..)| path.file_name().is_some_and(|name| name != "LOCK"));
        files
    };
    let before = picture();
    for (name, args, code, words) in REFUSED {
        println!("{name}");
        let args: Vec<String> = args.iter().map(|arg| arg.replace("{D}", root)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&args).fails(*code, &words.replace("{D}", root));
        let json: serde_json::Value =
            serde_json::from_str(&run(&[&args[..], &["--json"]].concat()).stderr).unwrap();
        assert!(json["error"].is_string() && json["message"].is_string(), "{json}");
    }
    assert_eq!(picture(), before);
    assert!(!folder.path().join("new").exists());
}

fn prepare(folder: &std::path::Path) {
    for name in ["spool", "newer"] {
        run_with(&["spool", "put", &log_uri(&folder.join(name))], b"payload").ok();
    }
    fs::write(folder.join("file"), "not a log, nor a config").unwrap();
    fs::create_dir(folder.join("foreign")).unwrap();
    fs::write(folder.join("foreign/file"), "mine").unwrap();
    fs::write(folder.join("section.toml"), "\n[spol.default]\n").unwrap();
    fs::write(folder.join("field.toml"), "[consensus]\nurl = \"memory:\"\n").unwrap();
    fs::write(folder.join("scheme.toml"), "[consensus]\nuri = \"lag:./x\"\n").unwrap();
    let parameter = "[spool.a]\nl1 = \"log:./x?sgment=1MiB\"\n";
    fs::write(folder.join("parameter.toml"), parameter).unwrap();
    fs::write(folder.join("tiered.toml"), "[spool.a]\nl2 = \"memory:\"\n").unwrap();
    fs::write(folder.join("limits.toml"), "[limits]\nbody = \"1GiB\"\n").unwrap();
    let newer = folder.join("newer");
    let config = format!(
        "[spool.default]\nl1 = \"log:{}\"\n[consensus]\nuri = \"memory:\"\n",
        newer.display()
    );
    fs::write(folder.join("newer.toml"), config).unwrap();
    // The manifest begins with magic, version and, after 32 bytes, their checksum.
    let mut manifest = fs::read(newer.join("MANIFEST")).unwrap();
    manifest[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let checksum = crc32c::crc32c(&manifest[..32]);
    manifest[32..36].copy_from_slice(&checksum.to_le_bytes());
    fs::write(newer.join("MANIFEST"), manifest).unwrap();
}

#[test]
fn a_key_with_a_nul_cannot_even_be_passed_but_a_long_one_is_refused() {
    let long = "k".repeat(1025);
    run(&["cache", "get", "memory:", &long]).fails(2, "1025 bytes long");
    run(&["consensus", "head", "memory:", &long]).fails(2, "1025 bytes long");
}

#[test]
fn a_second_process_on_the_same_folder_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let data = folder.path().to_str().unwrap();
    let pid = format!("process {}", daemon.pid());
    let spool = log_uri(&folder.path().join("spool"));
    let before = picture(folder.path());
    run(&["serve", "--listen", "127.0.0.1:0", "--data", data]).fails(5, &pid);
    run(&["spool", "ls", &spool]).fails(5, &pid);
    run_with(&["spool", "put", &spool], b"x").fails(5, &pid);
    run(&["verify", &spool]).fails(5, &pid);
    assert_eq!(picture(folder.path()), before);
}

#[test]
fn a_port_in_use_is_told_before_any_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    let data_text = data.to_str().unwrap();
    run(&["serve", "--listen", &address, "--data", data_text]).fails(5, &address);
    assert!(!data.exists());
}

#[test]
fn a_reader_that_leaves_early_ends_the_command_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("spool"));
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    (0..2_000).for_each(|n| fs::write(files.join(n.to_string()), "x").unwrap());
    run(&["spool", "put", &uri, files.to_str().unwrap()]).ok();
    let mut child = larder()
        .args(["spool", "ls", &uri])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
