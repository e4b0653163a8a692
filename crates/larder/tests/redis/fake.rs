//! A server that says what the test wants.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it does with a command that is no `PING`.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Answers this line.
    Says(&'static str),
    /// Reads it and closes the connection.
    HangsUp,
    /// Reads it and says nothing for ever.
    Stays,
    /// Not even `PING` is answered.
    IsDeaf,
}

/// A server in this process; it ends with the runtime.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) uri: String,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// A server that treats its first connection as `first` says, and all others as `then`.
    pub(crate) async fn start(first: Answer, then: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("redis://{}/0", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
                let answer = if is_first { first.clone() } else { then.clone() };
                tokio::spawn(serve(stream, answer));
            }
        });
        Self { uri, connections }
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, answer: Answer) {
    let mut stream = BufReader::new(stream);
    while let Some(command) = command(&mut stream).await {
        let line = match &answer {
            Answer::IsDeaf => continue,
            _ if command[0] == b"PING" => "+PONG",
            Answer::Says(line) => line,
            Answer::HangsUp => return,
            Answer::Stays => continue,
        };
        if stream.write_all(format!("{line}\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The words of the next command.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let count = number(stream, "*").await?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let mut word = vec![0; number(stream, "$").await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Some(words)
}

async fn number(stream: &mut BufReader<TcpStream>, sign: &str) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(sign)?.parse().ok()
}
