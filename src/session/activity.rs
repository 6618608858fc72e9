//! What counts as use of a session.
//!
//! A page that is open and that nobody is at must not keep a session alive for ever, and somebody who types slowly
//! must never be taken for nobody. Of a websocket only the lengths of its frames are seen, so the rule is about these.
//! It was settled on recordings of real pages, which the tests of this module play back.

/// What counts as use of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// Requests alone, the handshake of a websocket among them.
    #[default]
    Requests,
    /// Requests, and every websocket for as long as it is open.
    Open,
    /// Requests, and what comes over a websocket when somebody is at work.
    Input(InputRule),
}

/// When the frames of websockets are somebody's work. An editor that is left alone answers the service's pings, sends
/// acknowledgements of a few bytes, and now and then something longer, of which there is never much at a time. Typing
/// sends something longer for every key, on each of the editor's websockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputRule {
    /// Frames of data count from this length of their payload on.
    pub bytes: u8,
    /// So many within one window are work, over all websockets of a session, without [those that are spared](Spell).
    pub frames: u16,
    /// Whether what the service sends counts as well: a command that prints is work then.
    pub output: bool,
}

/// How many long frames came over one websocket in the window at hand. The first six are spared, or many open pages
/// would together look like work. Windows are a minute long, and shorter where sessions are stopped sooner; whoever
/// keeps the time numbers them, so that no clock is read for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spell {
    window: u16,
    /// How many there had been when it began.
    before: u16,
    seen: u16,
}

/// How many long frames of a websocket are spared in each window.
const SPARED: u16 = 6;

impl Default for InputRule {
    fn default() -> Self {
        Self {
            bytes: 10,
            frames: 20,
            output: false,
        }
    }
}

impl Activity {
    /// Whether a websocket, or a stream of events, is no use by itself; and when what comes over it is.
    #[must_use]
    pub fn of_streams(self) -> (bool, Option<InputRule>) {
        match self {
            Self::Open => (false, None),
            Self::Requests => (true, None),
            Self::Input(rule) => (true, Some(rule)),
        }
    }
}

impl Spell {
    /// In this window so many long frames have come so far, in all windows together; the count may wrap. Returns how
    /// many of the new ones are to be counted.
    pub fn counted(&mut self, window: u16, frames: u16) -> u16 {
        if self.window != window {
            self.window = window;
            self.before = self.seen;
        }
        let counted = |seen: u16| seen.wrapping_sub(self.before).saturating_sub(SPARED);
        let new = counted(frames).saturating_sub(counted(self.seen));
        self.seen = frames;
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A window as long as it is with any idle time of hours.
    const WINDOW: u64 = 60_000;

    /// The long frames of a recording: when they came, in milliseconds, and over which websocket.
    fn recorded(text: &str, rule: InputRule) -> Vec<(u64, u32)> {
        let mut all = Vec::new();
        for line in text.lines() {
            let [time, socket, way, opcode, length] = line.split(' ').collect::<Vec<_>>()[..]
            else {
                panic!("{line}");
            };
            let is_data = opcode.parse::<u8>().is_ok_and(|opcode| opcode < 8);
            let is_counted = way == "up" || rule.output;
            let length: u64 = length.parse().unwrap();
            if is_data && is_counted && length >= rule.bytes.into() {
                all.push((time.parse().unwrap(), socket.parse().unwrap()));
            }
        }
        all
    }

    /// In which of the whole windows somebody was at work, if the first of them begins there.
    fn worked(frames: &[(u64, u32)], rule: InputRule, first: u64, end: u64) -> Vec<bool> {
        let mut all = vec![0; usize::try_from((end - first) / WINDOW).unwrap()];
        let mut sockets: BTreeMap<u32, (Spell, u16)> = BTreeMap::new();
        for (time, socket) in frames {
            let (spell, seen) = sockets.entry(*socket).or_default();
            *seen += 1;
            let window = (time + WINDOW - first) / WINDOW;
            let counted = spell.counted(u16::try_from(window).unwrap(), *seen);
            let whole = usize::try_from(window).unwrap().checked_sub(1);
            if let Some(sum) = whole.and_then(|whole| all.get_mut(whole)) {
                *sum += counted;
            }
        }
        all.into_iter().map(|sum| sum >= rule.frames).collect()
    }

    /// The windows of a recording, wherever in it they begin.
    fn windows(text: &str, rule: InputRule) -> Vec<Vec<bool>> {
        let frames = recorded(text, rule);
        let last = text.lines().last().unwrap().split(' ').next().unwrap();
        let end: u64 = last.parse().unwrap();
        let begins = (0..WINDOW).step_by(1_000);
        begins
            .filter(|first| end >= first + WINDOW)
            .map(|first| worked(&frames, rule, first, end))
            .collect()
    }

    #[test]
    fn an_editor_that_is_left_alone_is_no_work_in_any_minute() {
        let text = include_str!("../../tests/activity/editor-untouched.txt");
        let windows = windows(text, InputRule::default());
        assert_eq!(windows.len(), 60);
        for all in windows {
            assert!(all.len() >= 8, "it was left alone for ten minutes");
            assert!(all.iter().all(|worked| !worked), "{all:?}");
        }
    }

    #[test]
    fn slow_typing_is_work_in_every_minute() {
        for text in [
            include_str!("../../tests/activity/editor-typing.txt"),
            include_str!("../../tests/activity/terminal-typing.txt"),
        ] {
            let windows = windows(text, InputRule::default());
            assert_eq!(windows.len(), 60);
            assert!(windows.iter().flatten().all(|worked| *worked));
        }
    }

    #[test]
    fn a_command_that_prints_now_and_then_is_work_where_output_counts() {
        let text = include_str!("../../tests/activity/terminal-printing.txt");
        for output in [false, true] {
            let rule = InputRule {
                output,
                ..InputRule::default()
            };
            let windows = windows(text, rule);
            assert_eq!(windows.len(), 60);
            assert!(windows.iter().flatten().all(|worked| *worked == output));
        }
    }

    /// The editor itself answers so much output, and by the lengths of frames nobody can tell that from work. So a
    /// session is not stopped under such a command, whatever the operator says.
    #[test]
    fn a_command_that_prints_a_lot_is_work() {
        let text = include_str!("../../tests/activity/terminal-building.txt");
        let windows = windows(text, InputRule::default());
        assert_eq!(windows, [[true]]);
    }

    /// Vite's client pings; so would an editor whose every frame is long.
    #[test]
    fn a_preview_that_is_left_open_is_no_work() {
        let text = include_str!("../../tests/activity/preview-untouched.txt");
        let windows = windows(text, InputRule::default());
        assert_eq!(windows.len(), 60);
        assert!(windows.iter().flatten().all(|worked| !worked));
    }

    /// No websocket: one request, whose answer comes bit by bit. That is use as long as it is under way, as of any
    /// request, and by what comes over it nobody could tell.
    #[test]
    fn the_answer_of_a_chat_is_no_work_but_a_request() {
        let text = include_str!("../../tests/activity/chat-answer.txt");
        let rule = InputRule {
            output: true,
            ..InputRule::default()
        };
        assert_eq!(recorded(text, rule), []);
        let asked = text.lines().filter(|line| line.contains(" up r "));
        assert_eq!(asked.count(), 1);
        assert!(text.lines().skip(1).all(|line| line.contains(" down b ")));
        let streams = [Activity::Requests, Activity::Open, Activity::Input(rule)];
        assert_eq!(
            streams.map(Activity::of_streams),
            [(true, None), (false, None), (true, Some(rule))]
        );
    }

    #[test]
    fn of_each_window_the_first_frames_are_spared_and_each_other_is_counted_once() {
        let mut spell = Spell::default();
        // Beyond the end of the count, too.
        let frames = |count: u16| (u16::MAX - 9).wrapping_add(count);
        spell.counted(6, frames(0));
        let all = [
            (7, 4),
            (7, 6),
            (7, 7),
            (7, 7),
            (7, 12),
            (8, 13),
            (8, 18),
            (8, 20),
            (9, 30),
        ];
        let counted = all.map(|(window, count)| spell.counted(window, frames(count)));
        assert_eq!(counted, [0, 0, 1, 0, 5, 0, 0, 2, 4]);
    }
}
