//! As much of the protocol as a test needs to look at a server without a driver.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::TextRows;

/// How long the server may take to say anything.
const LIMIT: Duration = Duration::from_secs(20);
/// The protocol that every server since 2003 speaks.
const PROTOCOL: u32 = 3 << 16;

/// A connection of the superuser that stays, for transactions that stand still.
#[derive(Debug)]
pub struct PostgresSession(TcpStream);

impl PostgresSession {
    /// Connects to a server of this machine.
    pub(super) fn open(port: u16) -> std::result::Result<Self, String> {
        Self::connect(port).unwrap_or_else(|error| Err(format!("cannot connect: {error}")))
    }

    /// Runs statements and gives the rows of all.
    ///
    /// # Errors
    /// What the server says, or why it could not be asked.
    pub fn query(&mut self, sql: &str) -> std::result::Result<TextRows, String> {
        self.ask(sql).unwrap_or_else(|error| Err(format!("{sql}: {error}")))
    }

    /// A session, or what the server says is wrong.
    fn connect(port: u16) -> Result<std::result::Result<Self, String>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut hello = PROTOCOL.to_be_bytes().to_vec();
        for word in ["user", "larder", "database", "postgres", "application_name", "testkit", ""] {
            hello.extend_from_slice(word.as_bytes());
            hello.push(0);
        }
        stream.write_all(&framed(&hello)?)?;
        let greeted = answers(&mut stream, |_, _| Ok(()))?;
        Ok(greeted.map(|()| Self(stream)))
    }

    /// The rows, or what the server says is wrong.
    fn ask(&mut self, sql: &str) -> Result<std::result::Result<TextRows, String>> {
        let mut message = vec![b'Q'];
        message.extend(framed(&[sql.as_bytes(), &[0]].concat())?);
        self.0.write_all(&message)?;
        let mut rows = Vec::new();
        let ended = answers(&mut self.0, |kind, body| {
            if kind == b'D' {
                rows.push(fields(body)?);
            }
            Ok(())
        })?;
        Ok(ended.map(|()| rows))
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        // In order, so that the server does not log a lost client.
        let _ = self.0.write_all(b"X\0\0\0\x04");
    }
}

/// Hands messages to `each` until the server is ready for more, or has had enough of us.
fn answers(
    stream: &mut TcpStream,
    mut each: impl FnMut(u8, &[u8]) -> Result<()>,
) -> Result<std::result::Result<(), String>> {
    let mut ended = Ok(());
    loop {
        let mut head = [0; 5];
        if let Err(error) = stream.read_exact(&mut head) {
            // After an error that ends the session there is nothing else.
            return if ended.is_err() { Ok(ended) } else { Err(error) };
        }
        let [kind, len @ ..] = head;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or_default();
        let mut body = vec![0; len.saturating_sub(4)];
        stream.read_exact(&mut body)?;
        match kind {
            b'Z' => return Ok(ended),
            b'E' => ended = Err(complaint(&body)),
            _ => each(kind, &body)?,
        }
    }
}

/// A message behind its length.
fn framed(body: &[u8]) -> Result<Vec<u8>> {
    let len = u32::try_from(body.len() + 4).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
    Ok([&len.to_be_bytes(), body].concat())
}

/// The fields of a row, as text.
fn fields(body: &[u8]) -> Result<Vec<Option<String>>> {
    let short = || Error::from(ErrorKind::UnexpectedEof);
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
    let mut fields = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        // -1 is NULL.
        let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
            fields.push(None);
            rest = after;
            continue;
        };
        let (field, after) = after.split_at_checked(len).ok_or_else(short)?;
        fields.push(Some(String::from_utf8_lossy(field).into_owned()));
        rest = after;
    }
    Ok(fields)
}

/// The code and the message of an error.
fn complaint(body: &[u8]) -> String {
    let part = |wanted: u8| {
        let mut parts = body.split(|byte| *byte == 0);
        let part = parts.find_map(|part| part.strip_prefix(&[wanted]));
        part.map(|part| String::from_utf8_lossy(part).into_owned()).unwrap_or_default()
    };
    format!("{} {}", part(b'C'), part(b'M'))
}
