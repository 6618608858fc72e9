//! Kubernetes' types as documents and back, by way of JSON's text. So does the client of the API; by another way, what
//! reads and writes all the types in a pod would be compiled once more.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What `value` is when it is read as a `T`.
///
/// # Errors
/// In the parser's words, if it is no `T`.
pub(super) fn reread<T: DeserializeOwned>(value: &impl Serialize) -> serde_json::Result<T> {
    serde_json::from_str(&serde_json::to_string(value)?)
}

/// One of Kubernetes' objects, or a part of one, as it is sent.
pub(super) fn document(object: &impl Serialize) -> Value {
    reread(object).expect("an object of strings and numbers is JSON")
}
