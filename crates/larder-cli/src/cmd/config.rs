//! `larder config check`: is this file a valid config?

use serde_json::json;

use crate::args::{ConfigAction, ConfigArgs};
use crate::exit::Exit;
use crate::output::Output;
use crate::serve::config::Config;

pub(crate) fn run(args: &ConfigArgs, output: &mut Output) -> Result<(), Exit> {
    let ConfigAction::Check { file } = &args.action;
    let config = Config::read(file)?;
    let (caches, spools) = (config.cache.len(), config.spool.len());
    let object = json!({ "valid": true, "caches": caches, "spools": spools });
    let text = format!("{} is valid: caches={caches} spools={spools}", file.display());
    output.line(&object, &text)
}
