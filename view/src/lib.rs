//! The request view: what a rule sees of a request, decoded once and laid out flat.
//!
//! [`View`] takes the parts of a request as they become known and lays each out as one section; [`View::write`] then
//! copies the sections that a rule declares into one buffer, in the layout of `docs/abi/version-2.md`. [`Reader`] reads
//! such a buffer back with every bound checked.

#[rustfmt::skip]
mod abi;
mod body;
mod bounds;
mod canonical;
mod connection;
mod cookies;
mod entry;
mod fields;
mod found;
mod layout;
mod path;
mod query;
mod reader;
mod scan;
mod section;
mod section_writer;
mod target;
mod view;

pub use abi::{Flags, Kind, SectionId};
pub use bounds::MAX_ENTRIES;
pub use connection::Connection;
pub use entry::{Entry, Section, Views};
pub use layout::MAX_CARRY;
pub use reader::{ReadError, ReadSection, Reader};
pub use section::Sections;
pub use view::{Head, View};
