//! Where websocket frames begin and end (RFC 6455 section 5.2), in bytes that pass by in any pieces.
//!
//! Only headers are read: payloads are skipped by arithmetic, and nothing is kept of them. A tunnel checks nothing for
//! its ends, so bytes that are no frames are no error here: the scanner is lost from then on, and says so.

use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::metrics::Frames;

/// The longest payload of a control frame (RFC 6455 section 5.5).
const LONGEST_CONTROL: u64 = 125;
const MASK: u64 = 4;

/// Follows the frames of one direction.
#[derive(Debug)]
pub(in crate::gateway) struct Scanner {
    /// Bytes to the end of the frame; while its length is being read, what was read of it.
    left: u64,
    /// The length of the payload, as far as it fits.
    length: u8,
    at: At,
    opcode: OpCode,
    masked: bool,
    closed: bool,
}

/// Which byte comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The first of a frame.
    Boundary,
    /// The one that says how long the frame is, or how long its length.
    Second,
    /// One of the length's own, of which so many are to come.
    Length(u8),
    /// One of the mask or the payload.
    Payload,
    /// One of something that is no frame.
    Lost,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            left: 0,
            length: 0,
            at: At::Boundary,
            opcode: OpCode::Data(Data::Continue),
            masked: false,
            closed: false,
        }
    }
}

impl Scanner {
    /// Whether the next byte is the first of a frame.
    pub(in crate::gateway) fn at_boundary(&self) -> bool {
        self.at == At::Boundary
    }

    /// Whether where frames end is not known any more.
    pub(in crate::gateway) fn is_lost(&self) -> bool {
        self.at == At::Lost
    }

    /// Whether a whole Close went by: no frame may follow it.
    pub(in crate::gateway) fn is_closed(&self) -> bool {
        self.closed
    }

    /// These bytes go by. Returns which frames ended in them; data is long from `long` bytes on.
    pub(in crate::gateway) fn scan(&mut self, mut bytes: &[u8], long: u8) -> Frames {
        let mut ended = Frames::default();
        while !bytes.is_empty() {
            bytes = &bytes[self.frame(bytes)..];
            if self.at_boundary() {
                match self.opcode {
                    OpCode::Data(_) => {
                        ended.data += 1;
                        ended.long += u16::from(self.length >= long);
                    }
                    OpCode::Control(_) => ended.control += 1,
                }
            }
        }
        ended
    }

    /// Of these bytes those go by that belong to the frame at hand. Returns how many.
    pub(in crate::gateway) fn frame(&mut self, bytes: &[u8]) -> usize {
        // Most frames are short and come in one piece.
        if self.at_boundary()
            && let Some(taken) = self.short(bytes)
        {
            return taken;
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let byte = bytes[taken];
            match self.at {
                At::Lost => return bytes.len(),
                At::Payload => {
                    let here = (bytes.len() - taken) as u64;
                    let passed = self.left.min(here);
                    self.left -= passed;
                    taken += usize::try_from(passed).expect("not more than the slice has");
                    self.payload();
                    if self.at_boundary() {
                        return taken;
                    }
                    continue;
                }
                At::Boundary => self.first(byte),
                At::Second => self.second(byte),
                At::Length(more) => {
                    self.left = self.left << 8 | u64::from(byte);
                    if more > 1 {
                        self.at = At::Length(more - 1);
                    } else {
                        self.length();
                    }
                }
            }
            taken += 1;
            if self.at_boundary() {
                return taken;
            }
        }
        taken
    }

    /// Of these bytes a frame goes by that is whole and whose length is in its second byte. Returns its bytes.
    fn short(&mut self, bytes: &[u8]) -> Option<usize> {
        let &[first, second] = bytes.first_chunk()?;
        let (length, masked) = (second & 0x7F, second & 0x80 != 0);
        let taken = 2 + usize::from(length) + if masked { MASK as usize } else { 0 };
        if length >= 126 || bytes.len() < taken {
            return None;
        }
        (self.opcode, self.length) = (opcode(first)?, length);
        self.closed |= self.opcode == OpCode::Control(Control::Close);
        Some(taken)
    }

    fn first(&mut self, byte: u8) {
        self.at = At::Lost;
        if let Some(opcode) = opcode(byte) {
            self.opcode = opcode;
            self.at = At::Second;
        }
    }

    fn second(&mut self, byte: u8) {
        self.masked = byte & 0x80 != 0;
        self.left = 0;
        match byte & 0x7F {
            126 => self.at = At::Length(2),
            127 => self.at = At::Length(8),
            short => {
                self.left = short.into();
                self.length();
            }
        }
    }

    /// The length is known.
    fn length(&mut self) {
        let control = matches!(self.opcode, OpCode::Control(_));
        // The highest bit of a length is never set.
        if self.left > i64::MAX as u64 || control && self.left > LONGEST_CONTROL {
            self.at = At::Lost;
            return;
        }
        self.length = u8::try_from(self.left).unwrap_or(u8::MAX);
        if self.masked {
            self.left += MASK;
        }
        self.payload();
    }

    fn payload(&mut self) {
        if self.left > 0 {
            self.at = At::Payload;
            return;
        }
        self.at = At::Boundary;
        self.closed |= self.opcode == OpCode::Control(Control::Close);
    }
}

/// Of which kind a frame is that begins with this byte, if one does.
fn opcode(byte: u8) -> Option<OpCode> {
    let opcode = OpCode::from(byte & 0x0F);
    match opcode {
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => None,
        OpCode::Control(_) if byte & 0x80 == 0 => None,
        OpCode::Data(_) | OpCode::Control(_) => Some(opcode),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

    use super::*;

    /// In the midst of the lengths that are tried.
    const LONG: u8 = 64;

    /// Any frame that an endpoint may send.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![0usize..130, 65_530usize..65_540];
        let header = (0u8..6, any::<[bool; 4]>(), any::<Option<[u8; 4]>>());
        (header, length, any::<u8>()).prop_map(|((opcode, bits, mask), length, byte)| {
            let opcode = OpCode::from([0, 1, 2, 8, 9, 10][usize::from(opcode)]);
            let control = matches!(opcode, OpCode::Control(_));
            let length = if control { length.min(125) } else { length };
            let [is_final, rsv1, rsv2, rsv3] = bits;
            let header = FrameHeader {
                is_final: is_final || control,
                rsv1,
                rsv2,
                rsv3,
                opcode,
                mask,
            };
            let mut bytes = Vec::new();
            Frame::from_payload(header, vec![byte; length].into())
                .format(&mut bytes)
                .unwrap();
            bytes
        })
    }

    /// The ends of frames, and the kinds of frames, as tungstenite reads them.
    fn peer(bytes: &[u8]) -> (Vec<u64>, Frames) {
        let mut cursor = Cursor::new(bytes);
        let (mut ends, mut frames) = (Vec::new(), Frames::default());
        while let Some((header, length)) = FrameHeader::parse(&mut cursor).unwrap() {
            cursor.set_position(cursor.position() + length);
            ends.push(cursor.position());
            match header.opcode {
                OpCode::Data(_) => {
                    frames.data += 1;
                    frames.long += u16::from(length >= LONG.into());
                }
                OpCode::Control(_) => frames.control += 1,
            }
        }
        (ends, frames)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn frames_end_where_another_parser_says_however_they_are_cut(
            frames in prop::collection::vec(frame(), 1..8),
            cuts in prop::collection::vec(1usize..200, 1..40),
        ) {
            let bytes = frames.concat();
            let (ends, kinds) = peer(&bytes);
            let mut scanner = Scanner::default();
            let (mut rest, mut found) = (&bytes[..], Vec::new());
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(*cuts.next().unwrap())];
                rest = &rest[scanner.frame(piece)..];
                if scanner.at_boundary() {
                    found.push((bytes.len() - rest.len()) as u64);
                }
            }
            prop_assert_eq!(found, ends);

            let (mut scanner, mut seen) = (Scanner::default(), Frames::default());
            for piece in bytes.chunks(cuts.next().unwrap() * 7) {
                let frames = scanner.scan(piece, LONG);
                seen.data += frames.data;
                seen.long += frames.long;
                seen.control += frames.control;
            }
            prop_assert_eq!(seen, kinds);
            prop_assert!(scanner.at_boundary() && !scanner.is_lost());
        }

        #[test]
        fn no_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut scanner = Scanner::default();
            let _ = scanner.scan(&bytes, LONG);
            prop_assert_eq!(scanner.frame(&bytes[..0]), 0);
        }
    }

    #[test]
    fn what_is_no_frame_loses_the_scanner_for_good() {
        let cases: [&[u8]; 5] = [
            &[0x83, 0],                                 // a reserved opcode
            &[0x8B, 0],                                 // a reserved control opcode
            &[0x09, 0],                                 // a fragment of a control frame
            &[0x89, 126, 0, 126],                       // a control frame that is too long
            &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 0], // a length of 2^63
        ];
        for bytes in cases {
            let mut scanner = Scanner::default();
            scanner.scan(bytes, LONG);
            assert!(scanner.is_lost(), "{bytes:?}");
            assert_eq!(scanner.scan(&[0x88, 0], LONG), Frames::default());
            assert!(!scanner.at_boundary() && !scanner.is_closed());
        }
    }

    #[test]
    fn a_close_is_seen_once_it_is_whole() {
        let mut scanner = Scanner::default();
        scanner.scan(&[0x88, 2, 3], LONG);
        assert!(!scanner.is_closed());
        scanner.scan(&[0xE9], LONG);
        assert!(scanner.is_closed());
    }

    #[test]
    fn following_frames_takes_few_bytes() {
        assert!(size_of::<Scanner>() <= 16, "{}", size_of::<Scanner>());
    }
}
