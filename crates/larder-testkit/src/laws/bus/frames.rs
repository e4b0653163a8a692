use bytes::Bytes;
use larder_core::bus::FRAME_BYTES_MAX;
use larder_core::{Bus, SharedBus, Subscription, Topic};

use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq, same_bytes};

laws! { SharedBus, "frames";
    /// A frame reaches every subscription of its topic that was established before, that of its own
    /// publisher included.
    a_frame_reaches_everybody_who_listens;
    /// A frame comes byte for byte, whatever its content, empty and of the largest size included.
    a_frame_comes_byte_for_byte;
    /// Frames that one handle publishes one after the other come in that order, none left out.
    frames_come_in_the_order_of_their_publisher;
    /// Frames of one topic do not come on another one, however alike the names are.
    topics_do_not_meet;
    /// That nobody listens is no error, and nothing is kept for those who come later.
    nobody_listening_is_no_error;
}

pub(super) fn topic(stage: &Stage<SharedBus>) -> Result<Topic, Violation> {
    Ok(Topic::new(&stage.key("bus"))?)
}

/// The next frame has to be this one.
pub(super) async fn next_is(
    subscription: &mut Subscription,
    promised: &[u8],
    what: &str,
) -> Verdict {
    same_bytes(what, &subscription.next().await?, promised)
}

async fn a_frame_reaches_everybody_who_listens(stage: &Stage<SharedBus>) -> Verdict {
    let (here, there, topic) = (stage.open().await?, stage.open().await?, topic(stage)?);
    let mut own = here.subscribe(&topic).await?;
    let mut second = here.subscribe(&topic).await?;
    let mut other = there.subscribe(&topic).await?;
    for (bus, text) in [(&here, "from here"), (&there, "from there")] {
        bus.publish(&topic, Bytes::from(text)).await?;
        next_is(&mut own, text.as_bytes(), "the frame of the first subscription").await?;
        next_is(&mut second, text.as_bytes(), "the frame of a second one on the handle").await?;
        next_is(&mut other, text.as_bytes(), "the frame of another handle").await?;
    }
    Ok(())
}

async fn a_frame_comes_byte_for_byte(stage: &Stage<SharedBus>) -> Verdict {
    let (bus, topic) = (stage.open().await?, topic(stage)?);
    let mut subscription = bus.subscribe(&topic).await?;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let largest = stage.random().bytes(FRAME_BYTES_MAX);
    for frame in [&b""[..], b"\0", b"it's \\ \r\n $1\r\n", &every_byte, &largest, b"last"] {
        bus.publish(&topic, Bytes::copy_from_slice(frame)).await?;
        next_is(&mut subscription, frame, "a frame").await?;
    }
    Ok(())
}

async fn frames_come_in_the_order_of_their_publisher(stage: &Stage<SharedBus>) -> Verdict {
    let (bus, topic) = (stage.open().await?, topic(stage)?);
    let mut subscription = bus.subscribe(&topic).await?;
    // Less than a subscription holds, so that nothing may be left out.
    for number in 0..300 {
        bus.publish(&topic, Bytes::from(format!("{number}"))).await?;
    }
    let mut expected = 0;
    while expected < 300 {
        let frame = subscription.next().await?;
        let number: u32 = String::from_utf8_lossy(&frame).parse()?;
        // A repeated frame is allowed, a hole or an older one that is new is not.
        ensure!(number <= expected, "frame {number} came where {expected} was due");
        expected = expected.max(number + 1);
    }
    Ok(())
}

async fn topics_do_not_meet(stage: &Stage<SharedBus>) -> Verdict {
    let (bus, topic) = (stage.open().await?, topic(stage)?);
    let longer = Topic::new(&format!("{topic}x"))?;
    let upper = Topic::new(&topic.as_str().to_uppercase())?;
    let mut subscription = bus.subscribe(&topic).await?;
    for other in [&longer, &upper] {
        bus.publish(other, Bytes::from("not for you")).await?;
    }
    bus.publish(&topic, Bytes::from("for you")).await?;
    next_is(&mut subscription, b"for you", "the first frame of the topic").await
}

async fn nobody_listening_is_no_error(stage: &Stage<SharedBus>) -> Verdict {
    let (bus, topic) = (stage.open().await?, topic(stage)?);
    bus.publish(&topic, Bytes::from("unheard")).await?;
    let mut subscription = bus.subscribe(&topic).await?;
    bus.publish(&topic, Bytes::from("heard")).await?;
    let frame = subscription.next().await?;
    ensure_eq!(frame, "heard", "the first frame after the subscription");
    Ok(())
}
