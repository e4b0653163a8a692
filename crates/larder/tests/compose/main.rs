//! The composition layer, cell by cell: scripted layers in virtual time.

#[cfg(test)]
mod cancel;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod events;
#[cfg(test)]
mod freshness;
#[cfg(test)]
mod nesting;
#[cfg(test)]
mod offload;
#[cfg(test)]
mod race;
#[cfg(test)]
mod read_table;
#[cfg(test)]
mod remove;
#[cfg(test)]
mod script;
#[cfg(test)]
mod stale;
#[cfg(test)]
mod words;
#[cfg(test)]
mod write_table;
