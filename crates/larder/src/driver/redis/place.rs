//! Where something is kept in a server.

use std::io::Write as _;

use redis::{RedisWrite, ToRedisArgs};

/// Where something is kept: a namespace, a colon, and the key as it is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) key: &'a str,
}

impl Place<'_> {
    pub(crate) const fn len(&self) -> usize {
        self.prefix.len() + self.key.len()
    }

    pub(super) fn to_vec(self) -> Vec<u8> {
        [self.prefix.as_bytes(), self.key.as_bytes()].concat()
    }
}

impl ToRedisArgs for Place<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        write_argument(out, &[self.prefix.as_bytes(), self.key.as_bytes()]);
    }
}

impl redis::ToSingleRedisArg for Place<'_> {}

/// Writes parts as one argument, which is put together only in the buffer that is sent.
pub(crate) fn write_argument<W: ?Sized + RedisWrite>(out: &mut W, parts: &[&[u8]]) {
    let mut argument = out.writer_for_next_arg();
    for part in parts {
        // Into memory, which does not fail.
        let _ = argument.write_all(part);
    }
}
