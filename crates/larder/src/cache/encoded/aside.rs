//! Long work beside the tasks of a runtime, so that they go on meanwhile.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use larder_core::BoxError;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// From so many bytes of a plain payload on work is long. A thread of the blocking pool is a few
/// microseconds away; Zstandard takes 75 us to make 64 KiB smaller, 300 us for this much, and a
/// tenth of a second for the largest payload.
pub(super) const LONG_FROM: usize = 256 << 10;

/// How much of it is done at a time in this process. It takes a processor and the payload twice, so more
/// at once would not be done sooner.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(processors))
});

/// Does `work` on `bytes`: here if they are few, or if there is no runtime, and otherwise on its blocking pool.
///
/// Dropped while it waits nothing is done; later, the work is done for nobody, and keeps its place until
/// then.
///
/// # Errors
/// That of the work, or that the runtime has ended meanwhile.
pub(super) async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, BoxError> + Send + 'static,
) -> Result<T, BoxError> {
    if bytes < LONG_FROM {
        return work();
    }
    let Ok(runtime) = Handle::try_current() else { return work() };
    let place = Arc::clone(&PLACES).acquire_owned().await?;
    let work = move || {
        let done = work();
        drop(place);
        done
    };
    runtime.spawn_blocking(work).await?
}
