//! An answer that is often there at once.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// What `at_hand` gives when this is first polled, or else what `asked` comes to.
    ///
    /// An async block of both would say the same, but its caller would have the answer moved out of a
    /// state machine that may also wait. This becomes a part of the caller, who makes the answer where
    /// it is used: a hit in memory is 4 ns of 41 cheaper.
    pub(super) struct AtHandOr<H, A> {
        at_hand: Option<H>,
        #[pin]
        asked: A,
    }
}

impl<H, A> AtHandOr<H, A> {
    pub(super) const fn new(at_hand: H, asked: A) -> Self {
        Self { at_hand: Some(at_hand), asked }
    }
}

impl<H, A, T, E> Future for AtHandOr<H, A>
where
    H: FnOnce() -> Option<T>,
    A: Future<Output = Result<Option<T>, E>>,
{
    type Output = Result<Option<T>, E>;

    #[expect(clippy::inline_always, reason = "what it is for")]
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(at_hand) = this.at_hand.take() {
            let found = at_hand();
            if found.is_some() {
                return Poll::Ready(Ok(found));
            }
        }
        this.asked.poll(context)
    }
}
