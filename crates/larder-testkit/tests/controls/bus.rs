use std::sync::Mutex;

use bytes::Bytes;
use larder_core::{BoxError, Bus, BusError, MemoryBus, SharedBus, Subscription, Topic};
use larder_testkit::{Place, Subject};

use crate::{broken, is_caught_by};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    SwapsPairs,
    LosesWithoutEnding,
    MixesTopics,
    KeepsForLater,
    TakesAnySize,
}

/// A bus with one defect.
#[derive(Debug)]
struct Defective {
    inner: MemoryBus,
    defect: Defect,
    /// What was published and not yet sent, or sent.
    frames: Mutex<Vec<Bytes>>,
}

fn subject(defect: Defect) -> Subject<SharedBus> {
    Subject::new(format!("{defect:?}"), move || {
        let inner = MemoryBus::new();
        let bus = SharedBus::new(Defective { inner, defect, frames: Mutex::default() });
        Ok(Place::new(move || std::future::ready(Ok::<_, BoxError>(bus.clone()))))
    })
}

impl Defective {
    fn topic(&self, topic: &Topic) -> Topic {
        match self.defect {
            Defect::MixesTopics => Topic::new(&topic.as_str().to_lowercase()).unwrap(),
            _ => topic.clone(),
        }
    }
}

impl Bus for Defective {
    async fn publish(&self, topic: &Topic, mut frame: Bytes) -> Result<(), BusError> {
        let topic = self.topic(topic);
        match self.defect {
            Defect::TakesAnySize => frame.truncate(4096),
            Defect::LosesWithoutEnding if frame.ends_with(b"7") => return Ok(()),
            Defect::KeepsForLater => self.frames.lock().unwrap().push(frame.clone()),
            Defect::SwapsPairs if frame.len() < 4 => {
                let held = self.frames.lock().unwrap().pop();
                let Some(held) = held else {
                    self.frames.lock().unwrap().push(frame);
                    return Ok(());
                };
                self.inner.publish(&topic, frame).await?;
                frame = held;
            }
            _ => {}
        }
        self.inner.publish(&topic, frame).await
    }

    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError> {
        let topic = self.topic(topic);
        let subscription = self.inner.subscribe(&topic).await?;
        if self.defect == Defect::KeepsForLater {
            let kept = self.frames.lock().unwrap().clone();
            for frame in kept {
                self.inner.publish(&topic, frame).await?;
            }
        }
        Ok(subscription)
    }

    fn label(&self) -> &'static str {
        "defective"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrapper_without_a_defect_keeps_every_law() {
    assert_eq!(broken(&subject(Defect::None)).await, Vec::<&str>::new());
}

macro_rules! caught {
    ($($name:ident: $defect:ident by $($law:literal),+;)+) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            is_caught_by(subject(Defect::$defect), &[$($law),+]).await;
        }
    )+ };
}

caught! {
    frames_out_of_order: SwapsPairs by "frames_come_in_the_order_of_their_publisher";
    frames_lost_without_an_end: LosesWithoutEnding
        by "frames_come_in_the_order_of_their_publisher",
           "a_slow_subscription_ends_without_a_hole_and_holds_nobody_up";
    topics_that_meet: MixesTopics by "topics_do_not_meet";
    frames_kept_for_later: KeepsForLater by "nobody_listening_is_no_error";
    frames_of_any_size: TakesAnySize by "a_frame_above_the_limit_is_refused";
}
