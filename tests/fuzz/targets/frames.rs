//! Frames of websockets: their ends and kinds are those that tungstenite reads, in whatever pieces they come.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::{Corpus, fuzz_target};
use session_gateway::gateway::fuzz::Frames;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, OpCode},
};

/// Two bytes, eight of the length, four of the mask.
const LONGEST_HEADER: usize = 14;

/// What there is to know of some bytes: where frames end, how many data and control frames did, and how it stands
/// behind the last byte: whether a frame begins there, whether a Close went by, whether it is lost.
#[derive(Debug, PartialEq, Eq, Default)]
struct Read {
    ends: Vec<usize>,
    frames: (u64, u64),
    state: (bool, bool, bool),
}

// How many sizes there are, the sizes of the pieces, which are used again and again, then the bytes themselves.
fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((&count, rest)) = bytes.split_first() else {
        return Corpus::Reject;
    };
    let Some((sizes, bytes)) = rest.split_at_checked(usize::from(count % 8) + 1) else {
        return Corpus::Reject;
    };
    let sizes = || sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    let expected = peer(bytes);

    let mut scanner = Frames::default();
    let mut ends = Vec::new();
    let (mut left, mut pieces) = (bytes, sizes());
    while !left.is_empty() {
        let piece = &left[..left.len().min(pieces.next().expect("they never end"))];
        let taken = scanner.frame(piece);
        assert!(
            (1..=piece.len()).contains(&taken),
            "{taken} of {}",
            piece.len()
        );
        left = &left[taken..];
        if scanner.state().0 {
            ends.push(bytes.len() - left.len());
        }
    }
    let found = Read {
        ends,
        frames: expected.frames,
        state: scanner.state(),
    };
    assert_eq!(found, expected);

    let mut scanner = Frames::default();
    let (mut left, mut frames) = (bytes, (0, 0));
    for size in sizes() {
        let (piece, more) = left.split_at(left.len().min(size));
        let (data, control) = scanner.scan(piece);
        frames = (frames.0 + data, frames.1 + control);
        left = more;
        if left.is_empty() {
            break;
        }
    }
    assert_eq!((frames, scanner.state()), (expected.frames, expected.state));
    Corpus::Keep
});

/// The same by tungstenite, whose header parser leaves the rules of control frames and the highest bit of a length to
/// the layers above (RFC 6455 sections 5.2 and 5.5).
fn peer(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let mut at = 0;
    while let Some(&first) = bytes.get(at) {
        // Whole even where the bytes end in the middle of it; what was made up is told by where it lies.
        let here = &bytes[at..bytes.len().min(at + LONGEST_HEADER)];
        let padded = [here, &[0; LONGEST_HEADER]].concat();
        let mut cursor = Cursor::new(&padded);
        let parsed = FrameHeader::parse(&mut cursor).map(|parsed| parsed.expect("it is whole"));
        let payload = usize::try_from(cursor.position()).expect("it is in memory");
        let Some((header, length)) = parsed
            .ok()
            .filter(|(header, _)| first & 0x08 == 0 || header.is_final)
        else {
            read.state.2 = true;
            return read;
        };
        let left = bytes.len() - at;
        let control = matches!(header.opcode, OpCode::Control(_));
        let mask = if header.mask.is_some() { 4 } else { 0 };
        if left >= payload - mask && (length > i64::MAX as u64 || control && length > 125) {
            read.state.2 = true;
            return read;
        }
        let whole = usize::try_from(length)
            .ok()
            .filter(|length| left.checked_sub(payload) >= Some(*length));
        let Some(length) = whole else { return read };
        at += payload + length;
        read.ends.push(at);
        match header.opcode {
            OpCode::Data(_) => read.frames.0 += 1,
            OpCode::Control(kind) => {
                read.frames.1 += 1;
                read.state.1 |= kind == Control::Close;
            }
        }
    }
    read.state.0 = true;
    read
}
