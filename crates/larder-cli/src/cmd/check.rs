//! `larder check`: does a backend keep the promises of its contract?

use std::sync::Arc;

use bytes::Bytes;
use larder::registry::attach_bus;
use larder::{BoxError, Bus as _, SharedConsensus, SharedSpool, SharedTier, Topic};
use larder_testkit::{CheckOptions, Contract, Finding, Need, Outcome, Place, Subject, check};
use serde_json::{Value, json};

use crate::args::{CheckArgs, CheckedContract};
use crate::exit::{Exit, say};
use crate::output::Output;
use crate::scratch::Scratch;
use crate::{progress, stores};

/// The payload limit of stores under test: small, so that crossing it is cheap.
const PAYLOAD_MAX: u64 = 4 << 20;
const PAYLOAD: &str = "max_payload=4MiB";
/// The bounds of stores that have to be easy to fill, and their payload limit.
const TIGHT: &str = "max_bytes=1MiB&max_entries=64&max_payload=256KiB";
const TIGHT_PAYLOAD_MAX: u64 = 256 << 10;
const TIGHT_CACHE: &str = "capacity=1MiB";

pub(crate) async fn run(args: CheckArgs, output: &mut Output) -> Result<(), Exit> {
    let scratch = Arc::new(Scratch::at(&args.uri, "check")?);
    match args.contract {
        CheckedContract::Spool => {
            let tried = async {
                stores::open_spool(&scratch.uri()?).await.map(drop)?;
                try_all(spool(&args, Arc::clone(&scratch)), &args, output).await
            };
            scratch.spend(tried).await
        }
        CheckedContract::Consensus => {
            let tried = async {
                stores::open_consensus(&scratch.uri()?).await.map(drop)?;
                try_all(consensus(&args, Arc::clone(&scratch)), &args, output).await
            };
            scratch.spend(tried).await
        }
        CheckedContract::Cache => {
            let tried = async {
                stores::open_cache(&scratch.uri()?).await.map(drop)?;
                try_all(cache(&args, &scratch)?, &args, output).await
            };
            scratch.spend(tried).await
        }
        // It leaves nothing: what it says is gone when it was heard.
        CheckedContract::Bus => {
            let uri = scratch.uri()?;
            let topic = Topic::new("check").map_err(|error| Exit::failed(error.to_string()))?;
            // An address can be attached to whether anybody is there or not.
            attach_bus(&uri)?.subscribe(&topic).await.map(drop)?;
            let place = Place::new(move || std::future::ready(attach_bus(&uri)));
            try_all(whole(&args, place, &args.uri, "memory:"), &args, output).await
        }
    }
}

fn spool(args: &CheckArgs, scratch: Arc<Scratch>) -> Subject<SharedSpool> {
    let open = |uri: String| {
        move || {
            let uri = uri.clone();
            async move { larder::open_spool(&uri).await }
        }
    };
    if scratch.folder().is_none() {
        return whole(args, Place::new(open(args.uri.clone())), &args.uri, "memory:");
    }
    // More has to be free than there is: the gate is closed.
    let place = move |uri: String| {
        let shut = format!("{uri}&min_free_space=100%25");
        Place::new(open(uri)).with_closed_gate(open(shut))
    };
    let tight = Arc::clone(&scratch);
    Subject::new(&args.uri, move || {
        let place = place(room(&scratch, Some(PAYLOAD))?).keeping(Arc::clone(&scratch));
        Ok(place.with_payload_max(PAYLOAD_MAX))
    })
    .with_tight_place(move || {
        let place = place(room(&tight, Some(TIGHT))?).keeping(Arc::clone(&tight));
        Ok(place.with_payload_max(TIGHT_PAYLOAD_MAX))
    })
    .offering([Need::Reopen, Need::SecondOpen, Need::PayloadLimit, Need::Gate])
}

fn consensus(args: &CheckArgs, scratch: Arc<Scratch>) -> Subject<SharedConsensus> {
    let open = |uri: String| {
        Place::new(move || {
            let uri = uri.clone();
            async move { larder::open_consensus(&uri).await }
        })
    };
    if !scratch.is_own() {
        return whole(args, open(args.uri.clone()), &args.uri, "memory:");
    }
    // Only a folder is one process's alone.
    let second = scratch.folder().is_some().then_some(Need::SecondOpen);
    Subject::new(stores::shown(&args.uri), move || {
        Ok(open(room(&scratch, None)?).keeping(Arc::clone(&scratch)))
    })
    .offering([Need::Reopen].into_iter().chain(second))
}

fn cache(args: &CheckArgs, scratch: &Arc<Scratch>) -> Result<Subject<SharedTier<Bytes>>, Exit> {
    let open = |uri: String| {
        Place::new(move || {
            let uri = uri.clone();
            async move { larder::open_cache(&uri).await }
        })
    };
    if scratch.folder().is_some() {
        let (own, tight) = (Arc::clone(scratch), Arc::clone(scratch));
        let wide = move || Ok(open(room(&own, None)?).keeping(Arc::clone(&own)));
        let subject = Subject::new(&args.uri, wide).with_tight_place(move || {
            Ok(open(room(&tight, Some(TIGHT_CACHE))?).keeping(Arc::clone(&tight)))
        });
        return Ok(subject.offering([Need::Reopen, Need::SecondOpen]));
    }
    let subject = whole(args, open(scratch.uri()?), &args.uri, "memory:");
    // The laws are tried one after the other, so what is nobody else's is each one's own.
    Ok(if scratch.is_own() { subject.offering([Need::Exclusive, Need::Reopen]) } else { subject })
}

/// A subject whose laws are all tried at one address; in memory each gets a store of its own.
fn whole<S: Contract>(args: &CheckArgs, place: Place<S>, uri: &str, own: &str) -> Subject<S> {
    if uri.starts_with(own) {
        return Subject::new(&args.uri, move || Ok(place.clone()));
    }
    Subject::shared(stores::shown(&args.uri), place)
}

/// A new folder or schema for one law.
fn room(scratch: &Scratch, parameters: Option<&str>) -> Result<String, BoxError> {
    match scratch.another(parameters) {
        Some(Ok(uri)) => Ok(uri),
        Some(Err(exit)) => Err(exit.message().into()),
        None => Err("the address has no folder".into()),
    }
}

async fn try_all<S: Contract>(
    subject: Subject<S>,
    args: &CheckArgs,
    output: &mut Output,
) -> Result<(), Exit> {
    let laws = S::laws();
    let options = match args.seed {
        Some(seed) => CheckOptions::default().with_seed(seed),
        None => CheckOptions::default(),
    };
    let bar = progress::bar(u64::try_from(laws.len()).unwrap_or(u64::MAX), "laws");
    let mut printed = Ok(());
    let report = check(&subject, laws, options, |finding| {
        if printed.is_ok() {
            printed = bar.suspend(|| show(finding, output));
        }
        bar.inc(1);
    })
    .await;
    bar.finish_and_clear();
    printed?;
    let (held, broken, ignored) = (report.held(), report.broken(), report.ignored());
    let object = json!({
        "subject": report.subject, "contract": S::NAME, "seed": report.seed,
        "held": held, "broken": broken, "ignored": ignored,
    });
    output.line(&object, &format!("{held} held, {broken} broken, {ignored} ignored"))?;
    output.flush()?;
    if broken == 0 {
        return Ok(());
    }
    if !output.json() {
        say(&format!(
            "repeat with: larder check {} --contract {} --seed {}",
            stores::shown(&args.uri),
            S::NAME,
            report.seed
        ));
    }
    Err(Exit::failed(format!("{}: broken promises: {broken}", report.subject)))
}

fn show(finding: &Finding, output: &mut Output) -> Result<(), Exit> {
    let (word, why) = match &finding.outcome {
        Outcome::Held => ("held", None),
        Outcome::Broken(violation) => ("broken", Some(violation.to_string())),
        Outcome::Ignored(need) => ("ignored", Some(format!("needs {need}"))),
    };
    let mut object = json!({ "law": finding.law, "outcome": word });
    object["took_ms"] = u64::try_from(finding.took.as_millis()).unwrap_or(u64::MAX).into();
    if word == "broken" {
        object["clause"] = finding.clause.into();
    }
    object["why"] = why.clone().map_or(Value::Null, Value::String);
    let why = why.map(|why| format!(": {}", why.replace('\n', " "))).unwrap_or_default();
    output.line(&object, &format!("{word:<8}{}{why}", finding.law))?;
    output.flush()
}
