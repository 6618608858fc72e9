//! The fields of a head (RFC 9112 section 5).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use httparse::Header;

/// What is added to a head on its way, so that its map need not grow.
const ADDED: usize = 8;

/// The fields as a map, whose values share `copy`, a copy of what `original` begins with and the fields are slices of.
/// `seen` is shown each of them.
///
/// # Errors
/// Those of `seen`.
pub(in crate::gateway) fn read<E>(
    (original, copy): (&[u8], &Bytes),
    fields: &[Header<'_>],
    mut seen: impl FnMut(&HeaderName, &HeaderValue) -> Result<(), E>,
) -> Result<HeaderMap, E> {
    let mut headers = HeaderMap::with_capacity(fields.len() + ADDED);
    for field in fields {
        let from = field.value.as_ptr() as usize - original.as_ptr() as usize;
        let value = copy.slice(from..from + field.value.len());
        let name = HeaderName::from_bytes(field.name.as_bytes());
        // `httparse` takes no bytes that these do not take.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
            seen(&name, &value)?;
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// Appends the line of a field.
pub(in crate::gateway) fn write(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}

/// Whether `Connection` has this option (RFC 9110 section 7.6.1).
pub(in crate::gateway) fn has_option(headers: &HeaderMap, option: &str) -> bool {
    let lines = headers.get_all(header::CONNECTION);
    lines.iter().any(|line| is_option(line, option))
}

/// Whether a line of `Connection` has it.
pub(in crate::gateway) fn is_option(line: &HeaderValue, option: &str) -> bool {
    let mut options = line.as_bytes().split(|byte| *byte == b',');
    options.any(|one| one.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}
