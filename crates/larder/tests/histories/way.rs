//! What goes wrong on the way to a server.

use std::time::Duration;

use larder_testkit::{Direction, Proxy, Random};

/// How many kinds there are.
pub(crate) const KINDS: usize = 9;

/// Lets one of them begin, until the proxy is restored.
pub(crate) fn disturb(proxy: &Proxy, kind: usize, random: &mut Random) {
    let either = |random: &mut Random| {
        if random.happens(50) { Direction::Request } else { Direction::Answer }
    };
    match kind {
        0 => proxy.kill_after(Direction::Request, random.below(600)),
        1 => proxy.kill_after(Direction::Answer, random.below(400)),
        // The server has got it, and the client gets no answer.
        2 | 3 => proxy.kill_after(Direction::Answer, 0),
        4 => proxy.kill(),
        5 => proxy.delay(Duration::from_millis(1 + random.word() % 8)),
        6 => proxy.hang(),
        7 => proxy.hold(either(random)),
        _ => proxy.half_close(either(random)),
    }
}
