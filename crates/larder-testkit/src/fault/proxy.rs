//! A way between a client and a server that can be cut, stopped and slowed down.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Passes connections on from a port of its own on the loopback interface to a server, until a test
/// wants it otherwise.
///
/// Every fault holds for connections that are there and for those to come, and ends with
/// [`Proxy::restore`], but for [`Proxy::kill`] and [`Proxy::half_close`], which are for those that are there.
/// A peer that ends its sending side only goes on to receive, as without a proxy. The bytes are those of any protocol, and the clients any blocking or
/// asynchronous ones: the proxy runs in threads of its own, which end with it.
///
/// ```
/// use larder_testkit::{Direction, Proxy};
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::start(server.local_addr()?)?;
/// let mut client = TcpStream::connect(proxy.address())?;
/// let (mut served, _) = server.accept()?;
///
/// // The server gets the request, and the client no answer.
/// proxy.kill_after(Direction::Answer, 0);
/// client.write_all(b"do it")?;
/// let mut request = [0; 5];
/// served.read_exact(&mut request)?;
/// served.write_all(b"done")?;
/// assert_eq!(client.read(&mut [0; 4]).unwrap_or(0), 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there are two")]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Answer,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Connections are ended, and new ones at once.
    cut: bool,
    /// In which directions nothing passes.
    held: [bool; 2],
    delay: Duration,
    /// After how many more bytes in a direction the connection that carries them ends.
    kill_after: [Option<usize>; 2],
    stopped: bool,
    accepted: usize,
    open: Vec<Arc<Link>>,
}

/// One connection to the proxy, and the one that it made for it.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// Which directions were ended on purpose: what comes there is thrown away.
    ended: [AtomicBool; 2],
}

impl Proxy {
    /// A proxy for the server at `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { address, shared })
    }

    /// A proxy for a server on a port of the loopback interface.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn to_port(port: u16) -> io::Result<Self> {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Where clients have to connect to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// Ends all connections, and new ones at once.
    pub fn cut(&self) {
        self.shared.change(|state| {
            state.cut = true;
            state.close();
        });
    }

    /// Ends all connections; new ones are passed on.
    pub fn kill(&self) {
        self.shared.change(State::close);
    }

    /// Ends one direction of all connections: the receiver sees the end of what is sent, as if the sender had shut down
    /// its sending side, and the other direction goes on. What the sender sends is thrown away.
    pub fn half_close(&self, direction: Direction) {
        self.shared.change(|state| {
            for link in &state.open {
                link.ended[direction.at()].store(true, Ordering::SeqCst);
                link.end(direction);
            }
        });
    }

    /// Lets nothing pass any more; connections stay, as behind a router that is down.
    pub fn hang(&self) {
        self.shared.change(|state| state.held = [true; 2]);
    }

    /// Lets nothing pass any more in one direction.
    pub fn hold(&self, direction: Direction) {
        self.shared.change(|state| state.held[direction.at()] = true);
    }

    /// Lets every piece of data wait for so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.delay = delay);
    }

    /// Ends a connection when so many more bytes have passed in a direction, on all of them
    /// together. With 0 bytes of [`Direction::Answer`] the server has got the request by then.
    pub fn kill_after(&self, direction: Direction, bytes: usize) {
        self.shared.change(|state| state.kill_after[direction.at()] = Some(bytes));
    }

    /// Lets everything pass again. What was held comes first.
    pub fn restore(&self) {
        self.shared.change(|state| {
            state.cut = false;
            state.held = [false; 2];
            state.delay = Duration::ZERO;
            state.kill_after = [None; 2];
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stopped = true;
            state.close();
        });
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Direction {
    const fn at(self) -> usize {
        match self {
            Self::Request => 0,
            Self::Answer => 1,
        }
    }
}

impl State {
    fn close(&mut self) {
        for link in self.open.drain(..) {
            link.close();
        }
    }
}

impl Link {
    /// From where to where bytes go.
    const fn ways(&self, direction: Direction) -> (&TcpStream, &TcpStream) {
        match direction {
            Direction::Request => (&self.client, &self.server),
            Direction::Answer => (&self.server, &self.client),
        }
    }

    /// Tells the receiver that nothing more comes.
    fn end(&self, direction: Direction) {
        // It may have ended by itself.
        let _ = self.ways(direction).1.shutdown(Shutdown::Write);
    }

    fn close(&self) {
        for stream in [&self.client, &self.server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            let cut = {
                let mut state = self.lock();
                if state.stopped {
                    return;
                }
                state.accepted += 1;
                state.cut
            };
            if !cut {
                // A server that is not there ends the connection of the client.
                drop(self.join(client));
            }
        }
    }

    /// Passes bytes on between `client` and a new connection to the server.
    fn join(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.target)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let link = Arc::new(Link { client, server, ended: Default::default() });
        {
            let mut state = self.lock();
            if state.cut || state.stopped {
                // That came while the server was being reached.
                link.close();
                return Ok(());
            }
            state.open.retain(|link| Arc::strong_count(link) > 1);
            state.open.push(Arc::clone(&link));
        }
        for direction in [Direction::Request, Direction::Answer] {
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            thread::spawn(move || shared.pass(direction, &link));
        }
        Ok(())
    }

    /// Passes bytes on until there are no more; an end of them is passed on as well.
    fn pass(&self, direction: Direction, link: &Link) {
        let (mut from, mut to) = link.ways(direction);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let Ok(len) = from.read(&mut buffer) else { return link.close() };
            if len == 0 {
                return link.end(direction);
            }
            let (len, ends) = self.admit(direction, len);
            let sent = to.write_all(&buffer[..len]).is_ok();
            if ends || (!sent && !link.ended[direction.at()].load(Ordering::SeqCst)) {
                return link.close();
            }
        }
    }

    /// Waits until `len` bytes may pass. How many of them do, and whether the connection ends then.
    fn admit(&self, direction: Direction, len: usize) -> (usize, bool) {
        let mut state = self.lock();
        let delay = state.delay;
        if !delay.is_zero() {
            let waited = self
                .changed
                .wait_timeout_while(state, delay, |state| !state.delay.is_zero() && !state.stopped);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let held = |state: &mut State| state.held[direction.at()] && !state.cut && !state.stopped;
        state = self.changed.wait_while(state, held).unwrap_or_else(PoisonError::into_inner);
        if state.cut || state.stopped {
            return (0, true);
        }
        match &mut state.kill_after[direction.at()] {
            None => (len, false),
            Some(left) if *left >= len && *left > 0 => {
                *left -= len;
                (len, *left == 0)
            }
            Some(left) => (std::mem::take(left), true),
        }
    }
}
