//! Caches that answer from memory, one file each.

mod bare;
#[cfg(feature = "foyer")]
mod foyer;
#[cfg(feature = "hitbox")]
mod hitbox;
mod larder;
#[cfg(feature = "moka")]
mod moka;
#[cfg(feature = "multi-tier-cache")]
mod multi_tier;

use std::sync::Arc;
use std::time::Duration;

use ::larder::{Key, KeyRef};

pub(crate) use self::bare::NAME as BARE;
#[cfg(feature = "hitbox")]
pub(crate) use self::hitbox::told;
pub(crate) use self::larder::{FACE, NESTED, NOW};
use crate::error::Result;
use crate::subject::Work;

/// What is cached: shared by those who have typed values, copied by those who store bytes.
pub(crate) type Text = Arc<str>;

/// How long everything lives that is put: no measurement takes so long.
const LIFE: Duration = Duration::from_hours(1);

/// What came of a row of look-ups.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pass {
    pub(crate) found: usize,
    pub(crate) allocations: u64,
}

/// A cache that holds every key it is asked for.
pub(crate) trait Near: Send + Sync {
    fn name(&self) -> &'static str;

    /// Looks keys up, one after the other.
    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass>;
}

/// A look-up that is to be made. The text of the key is not that of the cache: it came with a
/// request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) key: KeyRef<'a>,
    /// Its place among all keys, for a subject that needs keys of its own kind.
    #[cfg_attr(not(feature = "hitbox"), expect(dead_code, reason = "nobody else does"))]
    pub(crate) at: usize,
}

/// The body of [`Near::pass`]: a loop around one look-up, of whose answer the value is used.
macro_rules! pass {
    ($asked:expr, |$one:ident| $look_up:expr, |$hit:ident| $value:expr) => {
        Box::pin(async move {
            let before = crate::allocations::here();
            let mut found = 0;
            for $one in $asked {
                let answer = $look_up;
                if let Some($hit) = &answer {
                    std::hint::black_box($value);
                    found += 1;
                }
            }
            Ok(crate::near::Pass { found, allocations: crate::allocations::here() - before })
        })
    };
}
use pass;

/// A cache that holds a part of the keys it is asked for.
pub(crate) trait Evicting {
    fn name(&self) -> &'static str;

    /// Whether it has `key`; puts it in if not.
    fn ask(&self, key: &Key) -> bool;
}

/// `count` keys as services have them.
pub(crate) fn keys(count: usize) -> Result<Vec<Key>> {
    (0..count).map(|number| Ok(Key::new(format!("user/{number:08}/profile"))?)).collect()
}

/// 100 bytes that nobody else shares.
fn text(key: &Key) -> String {
    format!("{:-<100}", key.as_str())
}

/// The caches, each with a value under every one of `keys`. The composites that cost more to fill
/// take part in `all` only.
pub(crate) async fn filled(keys: &[Key], all: bool) -> Result<Vec<Box<dyn Near>>> {
    let mut subjects: Vec<Box<dyn Near>> = vec![bare::filled(keys)];
    subjects.extend(larder::filled(keys, all).await?);
    #[cfg(feature = "moka")]
    subjects.extend(moka::filled(keys).await);
    #[cfg(feature = "foyer")]
    subjects.extend(foyer::filled(keys).await?);
    #[cfg(feature = "multi-tier-cache")]
    subjects.push(multi_tier::filled(keys).await?);
    #[cfg(feature = "hitbox")]
    subjects.push(hitbox::filled(keys).await?);
    Ok(subjects)
}

/// The caches, empty, with room for so many entries.
pub(crate) fn evicting(entries: usize) -> Result<Vec<Box<dyn Evicting>>> {
    let mut subjects: Vec<Box<dyn Evicting>> = vec![larder::evicting(entries)?];
    #[cfg(feature = "moka")]
    subjects.extend(moka::evicting(entries));
    #[cfg(feature = "foyer")]
    subjects.extend(foyer::evicting(entries));
    Ok(subjects)
}
