//! The real binary: run as a command, or as a daemon on a free port.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod service;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// How long is waited for what has to come. It measures nothing: a busy machine may take its time.
const PATIENCE: Duration = Duration::from_mins(1);

/// Looks again and again, until it finds something; what it says meanwhile is why it has not.
pub(crate) async fn in_the_end<T>(mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) => assert!(started.elapsed() < PATIENCE, "still: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// The lines of stdout as JSON.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts that the command ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// Asserts the exit code, and one clear line on stderr that has `words`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        assert!(self.stderr.contains(words), "{:?} should say {words:?}", self.stderr);
        let looks_like_rust = ["panicked", "Error {", "Some(", "os error", "RUST_BACKTRACE"];
        assert!(looks_like_rust.iter().all(|sign| !self.stderr.contains(sign)), "{}", self.stderr);
        self
    }
}

pub(crate) fn larder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.env_remove("LARDER_LOG");
    command
}

/// Runs a command with nothing on stdin.
pub(crate) fn run(args: &[&str]) -> Ran {
    run_with(args, b"")
}

/// Runs a command with `input` on stdin.
pub(crate) fn run_with(args: &[&str], input: &[u8]) -> Ran {
    finish(larder().args(args), input)
}

/// Runs a command that was made ready, with `input` on stdin.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Ran {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that fails early does not read: that is not the writer's failure.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A `larder check` that runs.
pub(crate) struct Checking {
    child: Child,
    findings: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Checking {
    /// One that has tried some laws.
    pub(crate) fn begun(uri: &str, contract: &str) -> Self {
        let mut child = larder()
            .args(["check", uri, "--contract", contract, "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut findings = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            findings.next().unwrap().unwrap();
        }
        Self { child, findings }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn ends(mut self) -> Ran {
        let mut stderr = String::new();
        // Nobody else reads what it prints, which must not stop it.
        self.findings.by_ref().for_each(drop);
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ran { code, stdout: Vec::new(), stderr }
    }
}

/// Has laws fail by a bound that is too narrow for them, and gives how many did.
#[track_caller]
pub(crate) fn check_that_fails(uri: &str, contract: &str) {
    let ran = run(&["check", uri, "--contract", contract, "--json"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let last = ran.objects().pop().unwrap();
    assert!(last["broken"].as_u64().unwrap() > 0, "{last}");
    assert!(!ran.stderr.contains("left behind"), "{}", ran.stderr);
}

/// Ends a check by a signal.
#[track_caller]
pub(crate) fn check_that_is_interrupted(uri: &str, contract: &str) {
    for signal in ["-INT", "-TERM"] {
        let checking = Checking::begun(uri, contract);
        checking.signal(signal);
        let ran = checking.ends();
        assert_eq!(ran.code, 130, "{}", ran.stderr);
        assert!(ran.stderr.contains("\"interrupted\""), "{}", ran.stderr);
        assert!(!ran.stderr.contains("left behind"), "{}", ran.stderr);
    }
}

/// A running daemon; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
}

impl Daemon {
    /// Starts a daemon with its data in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(&["--data", folder.to_str().unwrap()])
    }

    /// Starts a daemon with a config of this text.
    pub(crate) fn configured(folder: &Path, config: &str) -> Self {
        let file = folder.join("larder.toml");
        std::fs::write(&file, config).unwrap();
        let data = folder.join("data");
        Self::start_with(&["--config", file.to_str().unwrap(), "--data", data.to_str().unwrap()])
    }

    pub(crate) fn start_with(args: &[&str]) -> Self {
        let mut child = larder()
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(args)
            .env("LARDER_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| {
            panic!("the daemon did not start: {line:?}");
        });
        Self { address: address.to_owned(), child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills the process as the system does when memory runs out.
    pub(crate) fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the daemon to end and waits for it.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the daemon did not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until no connection is taken any more, as from the first signal on.
    pub(crate) async fn turns_clients_away(&self) {
        in_the_end(async || match tokio::net::TcpStream::connect(&self.address).await {
            Ok(_) => Err("still accepting".to_owned()),
            Err(_) => Ok(()),
        })
        .await;
    }

    /// Waits until both tiers of a cache take a write, by a key of its own.
    pub(crate) async fn reaches_its_far_tier(&self) {
        in_the_end(async || {
            let put = self.call(Call::put("/v1/cache/default/probe", "v")).await.is(204);
            let outcome = put.header("larder-outcome").unwrap().to_owned();
            if outcome == "l1=done, l2=done" { Ok(()) } else { Err(outcome) }
        })
        .await;
    }

    /// Waits until the far tier of a cache owes nothing.
    pub(crate) async fn is_even(&self) {
        in_the_end(async || {
            let status = self.call(Call::get("/v1/status")).await.json();
            let far = &status["caches"]["default"]["tiers"][1];
            if far["owed_keys"] == 0 { Ok(()) } else { Err(far.to_string()) }
        })
        .await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address).await.unwrap()
    }

    /// One request on a connection of its own.
    pub(crate) async fn call(&self, request: Call) -> Answer {
        self.client().await.send(request).await.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: &str, path: impl Into<String>) -> Self {
        let method = method.parse().unwrap();
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new("PUT", path) }
    }

    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new("POST", path) }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.body).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        self
    }

    /// Asserts an error in the documented form.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json = self.json();
        assert_eq!(json["error"], code, "{json}");
        assert_eq!(json["effect"], "not-applied", "{json}");
        let message = json["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains('\n'), "{message}");
        self
    }
}

/// Runs what waits for answers.
pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(test);
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: String,
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Result<Self, BoxError> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { address: address.to_owned(), sender })
    }

    pub(crate) async fn send(&mut self, call: Call) -> Result<Answer, BoxError> {
        let mut request = Request::builder().method(call.method).uri(call.path);
        request = request.header("host", &self.address);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(call.body))?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// Every file below `folder` with its size and checksum, to see that nothing changed.
pub(crate) fn picture(folder: &Path) -> Vec<(PathBuf, usize, u32)> {
    let mut files: Vec<(PathBuf, usize, u32)> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let mut data = Vec::new();
            std::fs::File::open(entry.path()).unwrap().read_to_end(&mut data).unwrap();
            (entry.into_path(), data.len(), crc32c::crc32c(&data))
        })
        .collect();
    files.sort();
    files
}

pub(crate) fn log_uri(folder: &Path) -> String {
    format!("log:{}", folder.display())
}
