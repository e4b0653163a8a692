use std::time::Duration;

use bytes::Bytes;
use larder_core::bus::{FRAME_BYTES_MAX, SUBSCRIPTION_FRAMES};
use larder_core::{Bus, BusError, Effect, Failure, Retry, SharedBus};

use super::frames::{next_is, topic};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedBus, "bounds";
    /// A frame above the limit is refused as `TooLarge`, effect `NotApplied`, and is not sent.
    a_frame_above_the_limit_is_refused;
    /// A subscription that does not take its frames holds nobody up, and what it gets has no hole:
    /// it may only end, with an error.
    a_slow_subscription_ends_without_a_hole_and_holds_nobody_up;
    /// A subscription that is dropped is no matter to the others, and the topic can be subscribed
    /// again.
    a_dropped_subscription_is_no_matter_to_others;
}

async fn a_frame_above_the_limit_is_refused(stage: &Stage<SharedBus>) -> Verdict {
    let (bus, topic) = (stage.open().await?, topic(stage)?);
    let mut subscription = bus.subscribe(&topic).await?;
    match bus.publish(&topic, Bytes::from(vec![0; FRAME_BYTES_MAX + 1])).await {
        Err(error @ BusError::TooLarge { .. }) => {
            ensure_eq!(error.effect(), Effect::NotApplied, "the effect of a refusal");
            ensure_eq!(error.retry(), Retry::Never, "whether to repeat a refusal");
        }
        other => return Err(Violation::new(format!("TooLarge was promised, seen {other:?}"))),
    }
    bus.publish(&topic, Bytes::from("small")).await?;
    next_is(&mut subscription, b"small", "the frame after the refused one").await
}

async fn a_slow_subscription_ends_without_a_hole_and_holds_nobody_up(
    stage: &Stage<SharedBus>,
) -> Verdict {
    let (bus, topic) = (stage.open().await?, topic(stage)?);
    let mut slow = bus.subscribe(&topic).await?;
    let mut quick = bus.subscribe(&topic).await?;
    let count = 2 * SUBSCRIPTION_FRAMES + 10;
    let publishing = async {
        for number in 0..count {
            let frame = Bytes::from(format!("{number:1000}"));
            let sent = tokio::time::timeout(Duration::from_secs(10), bus.publish(&topic, frame));
            sent.await
                .map_err(|_| Violation::new("a slow subscription holds up a publisher"))??;
            let frame = quick.next().await?;
            ensure!(frame.ends_with(number.to_string().as_bytes()), "the quick one has a hole");
        }
        Ok::<_, Violation>(())
    };
    publishing.await?;
    for number in 0..count {
        match slow.next().await {
            Ok(frame) => {
                let text = String::from_utf8_lossy(&frame);
                let seen: usize = text.trim().parse()?;
                ensure!(seen <= number, "frame {seen} came where {number} was due: a hole");
            }
            Err(error) => {
                ensure_eq!(error.retry(), Retry::Later, "whether to subscribe again");
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn a_dropped_subscription_is_no_matter_to_others(stage: &Stage<SharedBus>) -> Verdict {
    let (bus, topic) = (stage.open().await?, topic(stage)?);
    let mut stays = bus.subscribe(&topic).await?;
    for round in 0..3 {
        let mut goes = bus.subscribe(&topic).await?;
        let frame = format!("round {round}");
        bus.publish(&topic, Bytes::from(frame.clone())).await?;
        next_is(&mut goes, frame.as_bytes(), "the frame of one that goes").await?;
        drop(goes);
        next_is(&mut stays, frame.as_bytes(), "the frame of one that stays").await?;
    }
    Ok(())
}
