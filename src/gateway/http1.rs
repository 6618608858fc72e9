//! What the connections of clients and of services share of HTTP/1.1 (RFC 9112): fields and bodies, as bytes. Pure.

mod chunked;
mod fields;
mod reading;

pub(super) use chunked::ChunkError;
pub(super) use fields::{has_option, is_option, read as read_fields, write as write_field};
pub(super) use reading::Reading;

/// The most fields of a head.
pub(super) const FIELDS: usize = 100;
