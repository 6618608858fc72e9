//! Which fields a request has, looked at once: nearly none has any that a rule asks for, and each question to the map
//! would cost a hash.

use http::HeaderMap;

use super::{is_hop_by_hop, prepare::is_claim};

/// The kinds of fields that a head has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::gateway) struct Names(u8);

impl Names {
    /// `Connection`.
    pub(super) const CONNECTION: Self = Self(1);
    /// `Transfer-Encoding`.
    pub(super) const CODING: Self = Self(1 << 1);
    /// `Expect`.
    pub(super) const EXPECT: Self = Self(1 << 2);
    /// What proxies leave of themselves: `Via`, `CDN-Loop`.
    pub(super) const PASSED: Self = Self(1 << 3);
    /// `Origin`.
    pub(in crate::gateway) const ORIGIN: Self = Self(1 << 4);
    /// `Sec-Fetch-Site`.
    pub(in crate::gateway) const SITE: Self = Self(1 << 5);
    /// Anything that is not passed on.
    pub(super) const DROPPED: Self = Self(1 << 6);

    /// Those of this head.
    pub(in crate::gateway) fn of(headers: &HeaderMap) -> Self {
        let mut names = 0;
        for name in headers.keys() {
            let kind = match name.as_str() {
                "connection" => Self::CONNECTION,
                "transfer-encoding" => Self::CODING,
                "expect" => Self::EXPECT,
                "via" | "cdn-loop" => Self::PASSED,
                "origin" => Self::ORIGIN,
                "sec-fetch-site" => Self::SITE,
                _ => Self(0),
            };
            names |= kind.0;
            if is_hop_by_hop(name.as_str()) || is_claim(name.as_str()) {
                names |= Self::DROPPED.0;
            }
        }
        Self(names)
    }

    /// Whether any field is of this kind.
    pub(in crate::gateway) fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_field_is_of_its_kinds() {
        let (dropped, none) = (Names::DROPPED, Names(0));
        for (name, kind, too) in [
            ("connection", Names::CONNECTION, dropped),
            ("transfer-encoding", Names::CODING, dropped),
            ("expect", Names::EXPECT, dropped),
            ("via", Names::PASSED, none),
            ("cdn-loop", Names::PASSED, none),
            ("origin", Names::ORIGIN, none),
            ("sec-fetch-site", Names::SITE, none),
            ("keep-alive", dropped, none),
            ("x-forwarded-for", dropped, none),
            ("x_forwarded_for", dropped, none),
            ("accept", none, none),
            ("host", none, none),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("accept", HeaderValue::from_static("*/*"));
            headers.insert(name, HeaderValue::from_static("x"));
            assert_eq!(Names::of(&headers), Names(kind.0 | too.0), "{name}");
        }
    }
}
