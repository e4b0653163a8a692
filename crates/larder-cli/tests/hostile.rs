//! The real binary among clients, files and operators that do not behave.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

mod support;

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::{Call, Daemon, log_uri, run, run_with};

/// Sends a head and a body of `size` bytes before it reads anything, as simple clients do.
fn upload(daemon: &Daemon, head: &str, size: usize) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(&daemon.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&vec![b'x'; size])?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_refused_upload_is_answered_also_to_a_client_that_sends_all_of_it_first() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let table = [
        ("PUT /nothing/here", "404"),
        ("POST /v1/spool/none", "404"),
        ("PUT /v1/spool/default", "405"),
        ("PUT /v1/spool/default/no-id", "400"),
        ("PUT /v1/cache/default/k?x=1", "400"),
        ("PUT /v1/consensus/k?seqno=1", "400"),
    ];
    for (head, status) in table {
        let answer = upload(&daemon, head, 16 << 20).unwrap_or_else(|error| error.to_string());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert!(answer.contains("\"effect\":\"not-applied\""), "{head}: {answer}");
    }
}

#[test]
fn a_client_that_asks_first_is_refused_before_it_sends_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::configured(folder.path(), "[limits]\nbody = \"64KiB\"\n");
    for (path, status) in [("default", "413"), ("none", "404")] {
        let mut stream = TcpStream::connect(&daemon.address).unwrap();
        let head = format!(
            "POST /v1/spool/{path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
             content-length: 1000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_quoted_no_further_than_needed() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let long = "\u{e9}".repeat(400);
    let encoded = "%C3%A9".repeat(400);
    let answers = [
        daemon.call(Call::get(format!("/v1/cache/{encoded}/k"))).await.is(404),
        daemon.call(Call::get(format!("/v1/spool/{encoded}"))).await.is(404),
        daemon.call(Call::get(format!("/v1/spool/default?{}=1", "q".repeat(800)))).await.is(400),
        daemon.call(Call::get(format!("/v1/consensus/k/versions?from={encoded}"))).await.is(400),
        daemon.call(Call::get(format!("/v1/consensus/k/versions?limit={encoded}"))).await.is(400),
        daemon
            .call(Call::put("/v1/cache/default/k", "v").with("larder-ttl", "9".repeat(800)))
            .await
            .is(400),
    ];
    for answer in answers {
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.len() < 240, "{message}");
        assert!(!message.contains(&long), "{message}");
    }
    daemon.call(Call::get("/v1/consensus/k/versions?limit=%2B5")).await.fails(400, "bad-limit");
}

#[test]
fn a_source_that_is_no_file_is_read_and_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("spool"));
    // As in `spool put URI <(command)`: a pipe with a name.
    let id = run_with(&["spool", "put", &uri, "/dev/stdin"], b"from a pipe").ok().text();
    assert_eq!(run(&["spool", "get", &uri, id.trim()]).ok().text(), "from a pipe");

    let file = folder.path().join("file");
    fs::write(&file, "from a file").unwrap();
    let sources = ["spool", "put", &uri, file.to_str().unwrap(), "/dev/stdin"];
    let ids = run_with(&sources, b"from a pipe").ok().text();
    assert_eq!(ids.lines().count(), 2, "{ids}");
    run(&["spool", "put", &uri, "/dev/zero"]).fails(1, "larger than a payload may be");
    let socket = folder.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    run(&["spool", "put", &uri, socket.to_str().unwrap()]).fails(1, "socket");
}

#[test]
fn a_config_without_an_end_is_refused() {
    run(&["config", "check", "/dev/zero"]).fails(2, "too large for a config");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("binary.toml");
    fs::write(&file, b"\xff\xfe").unwrap();
    run(&["config", "check", file.to_str().unwrap()]).fails(2, "not UTF-8");
}

#[test]
fn a_folder_in_use_stays_locked_when_its_lock_file_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let spool = folder.path().join("spool");
    fs::remove_file(spool.join("LOCK")).unwrap();
    for _ in 0..2 {
        run(&["spool", "ls", &log_uri(&spool)]).fails(5, "in use");
        run(&["verify", spool.to_str().unwrap()]).fails(5, "in use");
    }
    daemon.terminate();
    run(&["spool", "ls", &log_uri(&spool)]).ok();
}

#[test]
fn waits_that_no_clock_can_reckon_with_are_bounded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uri = log_uri(&folder.path().join("spool"));
    let patient = format!("{uri}?store_deadline=18446744073709551615s");
    run_with(&["spool", "put", &patient], b"kept").ok();
    for field in ["head_timeout", "idle_timeout", "drain"] {
        let file = folder.path().join("larder.toml");
        fs::write(&file, format!("[limits]\n{field} = \"18446744073709551615s\"\n")).unwrap();
        let checked = run(&["config", "check", file.to_str().unwrap()]);
        checked.fails(2, "of at most 365days");
    }
}

#[test]
fn a_file_that_changes_under_its_reader_is_not_stored_by_half() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("growing");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    fs::File::create(&file).unwrap().set_len(128 << 20).unwrap();
    let writer = std::thread::spawn({
        let (file, stop) = (file.clone(), std::sync::Arc::clone(&stop));
        move || {
            let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let uri = log_uri(&folder.path().join("spool"));
    let stored = run(&["spool", "put", &uri, file.to_str().unwrap()]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    stored.fails(1, "changed while it was read");
    run(&["spool", "put", &uri, file.to_str().unwrap()]).ok();
    assert_eq!(run(&["spool", "ls", &uri]).ok().text().lines().count(), 2);
}

#[test]
fn a_daemon_whose_log_cannot_be_written_still_answers() {
    let folder = tempfile::tempdir().unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = support::larder()
        .args(["serve", "--listen", "127.0.0.1:0", "--data", folder.path().to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .stderr(full)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    std::io::BufReader::new(stdout).read_line(&mut line).unwrap();
    let ask = || -> std::io::Result<String> {
        let mut stream =
            TcpStream::connect(line.trim().trim_start_matches("listening on http://"))?;
        // Refusals are logged.
        stream
            .write_all(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 404 ")), "{answer:?}");
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing_done() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let post = || Call::post("/v1/spool/default", "planted");
    daemon.call(post().with("origin", "http://evil.example")).await.fails(403, "foreign-origin");
    daemon.call(post().with("origin", "null")).await.fails(403, "foreign-origin");
    // The test client names the daemon truly in its Host header, so this one is written by hand.
    let mut stream = TcpStream::connect(&daemon.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = "GET /v1/spool/default HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("foreign-host"), "{answer}");
    let listed = daemon.call(Call::get("/v1/spool/default")).await.is(200).lines();
    assert_eq!(listed.len(), 1, "nothing was planted: {listed:?}");
    let own = format!("http://{}", daemon.address);
    daemon.call(post().with("origin", own)).await.is(201);
}
