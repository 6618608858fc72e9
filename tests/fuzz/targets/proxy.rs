//! PROXY headers: nothing panics, a header is the same however it is cut, and not one byte behind it is taken.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use session_gateway::gateway::fuzz::proxied;

fuzz_target!(|bytes: &[u8]| {
    let whole = proxied(bytes);
    if let Ok(Some((length, address))) = whole {
        assert!(
            (1..=bytes.len()).contains(&length),
            "{length} of {}",
            bytes.len()
        );
        if bytes.starts_with(b"PROXY ") {
            let (taken, said) = v1(bytes).expect("it is one of version 1");
            assert_eq!((taken, said), (length, address));
        } else {
            let (taken, said) = v2(bytes).expect("it is one of version 2");
            assert_eq!((taken, said), (length, address));
        }
    }
    for cut in 0..bytes.len() {
        match (proxied(&bytes[..cut]), &whole) {
            // Refused early is refused late, and what was whole stays so.
            (Err(_), whole) => assert!(whole.is_err(), "refused at {cut} alone"),
            (Ok(Some(found)), whole) => {
                assert_eq!(Some(found), *whole.as_ref().expect("it was whole"))
            }
            (Ok(None), Ok(Some((length, _)))) => {
                assert!(cut < *length, "whole at {length}, not at {cut}")
            }
            (Ok(None), _) => {}
        }
    }
});

/// Version 1, read by its words (section 2.1 of the specification).
fn v1(bytes: &[u8]) -> Option<(usize, Option<IpAddr>)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = String::from_utf8_lossy(&bytes[..end]);
    let words: Vec<_> = line.split(' ').collect();
    let address = match words[..] {
        // All that follows is for nobody.
        ["PROXY", word, ..] if word.starts_with("UNKNOWN") => None,
        ["PROXY", "TCP4" | "TCP6", source, _, _, _] => {
            Some(source.parse::<IpAddr>().ok()?.to_canonical())
        }
        _ => return None,
    };
    Some((end + 2, address))
}

/// Version 2, read by its offsets (section 2.2).
fn v2(bytes: &[u8]) -> Option<(usize, Option<IpAddr>)> {
    bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n").then_some(())?;
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let from = &bytes[16..16 + length];
    let address: Option<IpAddr> = match (bytes[12] & 0x0F, bytes[13] >> 4) {
        (1, 1) => Some(<[u8; 4]>::try_from(&from[..4]).ok()?.into()),
        (1, 2) => Some(<[u8; 16]>::try_from(&from[..16]).ok()?.into()),
        _ => None,
    };
    Some((16 + length, address.map(|address| address.to_canonical())))
}
