//! Whose turn it is to start: so many at a time, one user after the other, and of one user in order.
//!
//! Who has one session to start waits no longer than who has fifty. Where each start stands in the line is told to the
//! table at every change, for the pages.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{fact::Fact, table::Table};
use crate::session::SessionId;

/// The starts of one replica that wait, and the places of those that do not. Cheap to clone.
#[derive(Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    line: Mutex<Line<Waiting>>,
    table: Arc<Table>,
}

/// A start that waits.
struct Waiting {
    id: SessionId,
    turn: oneshot::Sender<Turn>,
    /// The position that the table was told last.
    told: usize,
}

/// The place of a start that is under way; the next one's on drop.
pub(super) struct Turn(Queue);

/// Why a start gets no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// So many wait already.
    Full(usize),
    /// Somebody took it back.
    Withdrawn,
}

impl Queue {
    /// So many places, and room for so many who wait for one.
    pub(super) fn new(table: &Arc<Table>, places: usize, room: usize) -> Self {
        let shared = Shared {
            line: Mutex::new(Line::new(places, room)),
            table: Arc::clone(table),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits for this user's turn. Dropping the future gives its place in the line up.
    ///
    /// # Errors
    /// `Full` at once; `Withdrawn` if it was [taken back](Self::withdraw) meanwhile.
    pub(super) async fn turn(&self, id: SessionId, user: &Arc<str>) -> Result<Turn, NoTurn> {
        let (turn, given) = oneshot::channel();
        let key = self.enter(user, Waiting { id, turn, told: 0 })?;
        let _place = InLine { queue: self, key };
        given.await.map_err(|_| NoTurn::Withdrawn)
    }

    fn enter(&self, user: &Arc<str>, waiting: Waiting) -> Result<Key, NoTurn> {
        let mut line = self.line();
        let entered = line.enter(user, waiting);
        let key = entered.map_err(|_| NoTurn::Full(line.room))?;
        self.go_on(line);
        Ok(key)
    }

    /// Takes the start of this session out of the line, if it is there.
    pub(super) fn withdraw(&self, id: SessionId) {
        let mut line = self.line();
        line.waiting.retain(|_, waiting| waiting.id != id);
        self.tell(&mut line);
    }

    /// A place is free again.
    fn free(&self) {
        let mut line = self.line();
        line.places += 1;
        self.go_on(line);
    }

    /// Gives a free place to the next one. If that has left it comes back by being dropped, for which the line has to
    /// be unlocked.
    fn go_on(&self, mut line: MutexGuard<'_, Line<Waiting>>) {
        let next = line.next();
        self.tell(&mut line);
        drop(line);
        if let Some(waiting) = next {
            let _ = waiting.turn.send(Turn(self.clone()));
        }
    }

    /// Tells each that waits where it stands now. Under the lock, or an older word might come later.
    fn tell(&self, line: &mut Line<Waiting>) {
        for (position, waiting) in (1..).zip(line.waiting.values_mut()) {
            if waiting.told != position {
                waiting.told = position;
                self.shared
                    .table
                    .apply(Fact::Position(waiting.id, position));
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line<Waiting>> {
        self.shared
            .line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.free();
    }
}

/// A place in the line, given up on drop.
struct InLine<'a> {
    queue: &'a Queue,
    key: Key,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        if line.waiting.remove(&self.key).is_some() {
            self.queue.tell(&mut line);
        }
    }
}

/// The round that an entry is served in, and its number among all that ever came.
type Key = (u64, u64);

/// A fair line. Pure.
///
/// An entry belongs to the round after that of its user's entry before, and to the present one if there is none; within
/// a round the first to come is the first. This is start-time fair queueing with entries of one size.
struct Line<T> {
    /// Those that are free.
    places: usize,
    /// How many may wait.
    room: usize,
    /// The round of the last entry that got a place.
    round: u64,
    entered: u64,
    waiting: BTreeMap<Key, T>,
    /// The last round of each user that lies ahead, or is the present one.
    rounds: HashMap<Arc<str>, u64>,
}

impl<T> Line<T> {
    fn new(places: usize, room: usize) -> Self {
        Self {
            places,
            room,
            round: 0,
            entered: 0,
            waiting: BTreeMap::new(),
            rounds: HashMap::new(),
        }
    }

    /// Takes an entry of this user in, or gives it back if there is no room.
    fn enter(&mut self, user: &Arc<str>, entry: T) -> Result<Key, T> {
        if self.places == 0 && self.waiting.len() >= self.room {
            return Err(entry);
        }
        let after = self.rounds.get(user).map_or(0, |round| round + 1);
        let key = (after.max(self.round), self.entered);
        self.entered += 1;
        self.rounds.insert(Arc::clone(user), key.0);
        self.waiting.insert(key, entry);
        Ok(key)
    }

    /// Gives a free place to the next entry, if there are both.
    fn next(&mut self) -> Option<T> {
        if self.places == 0 {
            return None;
        }
        let ((round, _), entry) = self.waiting.pop_first()?;
        self.places -= 1;
        if round > self.round {
            self.round = round;
            self.rounds.retain(|_, last| *last >= round);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(name: &str) -> Arc<str> {
        name.into()
    }

    /// The order in which these come to their turn, if all came while no place was free.
    fn order(entries: &[(&str, u32)]) -> Vec<u32> {
        let mut line = Line::new(0, usize::MAX);
        for (name, entry) in entries {
            line.enter(&user(name), *entry).unwrap();
        }
        served(&mut line)
    }

    fn served<T>(line: &mut Line<T>) -> Vec<T> {
        std::iter::from_fn(|| {
            line.places = 1;
            line.next()
        })
        .collect()
    }

    #[test]
    fn users_take_turns_and_each_ones_entries_keep_their_order() {
        let came = [
            ("a", 1),
            ("a", 2),
            ("a", 3),
            ("b", 4),
            ("c", 5),
            ("b", 6),
            ("a", 7),
        ];
        assert_eq!(order(&came), [1, 4, 5, 2, 6, 3, 7]);
    }

    #[test]
    fn a_user_with_one_waits_no_longer_than_a_user_with_fifty() {
        let mut line = Line::new(10, usize::MAX);
        for entry in 0..50 {
            line.enter(&user("fifty"), ("fifty", entry)).unwrap();
        }
        let begun = std::iter::from_fn(|| line.next()).count();
        assert_eq!(begun, 10, "nobody else was there");
        line.enter(&user("one"), ("one", 0)).unwrap();
        assert_eq!(served(&mut line)[0], ("one", 0));
    }

    /// Whoever comes again and again does not overtake what waits: its next entry belongs to a later round.
    #[test]
    fn nobody_is_overtaken_for_ever() {
        let mut line = Line::new(0, usize::MAX);
        line.enter(&user("b"), 1).unwrap();
        line.enter(&user("b"), 2).unwrap();
        line.enter(&user("a"), 0).unwrap();
        let mut turns = Vec::new();
        for _ in 0..4 {
            line.places = 1;
            let next = line.next().unwrap();
            turns.push(next);
            if next == 0 {
                line.enter(&user("a"), 0).unwrap();
            }
        }
        assert_eq!(turns, [1, 0, 2, 0]);
    }

    #[test]
    fn there_is_room_for_so_many_and_one_who_leaves_makes_some() {
        let mut line = Line::new(1, 2);
        for entry in 0..3 {
            line.enter(&user("a"), entry).unwrap();
            line.next();
        }
        assert_eq!(line.enter(&user("b"), 3), Err(3));
        let last = *line.waiting.last_key_value().unwrap().0;
        line.waiting.remove(&last);
        assert!(line.enter(&user("b"), 3).is_ok());
        assert_eq!(served(&mut line), [3, 1]);
        assert_eq!(
            line.rounds.len(),
            1,
            "who is served long since is forgotten"
        );
    }

    proptest! {
        /// However users come: while one waits, nobody else has more than two turns. `None` serves.
        #[test]
        fn nobody_has_three_turns_while_another_waits_for_one(
            steps in proptest::collection::vec(proptest::option::of(0_u8..6), 1..200)
        ) {
            let mut line = Line::new(0, usize::MAX);
            let mut own: HashMap<u8, Vec<usize>> = HashMap::new();
            let mut turns: HashMap<(u8, u8), usize> = HashMap::new();
            let served = std::iter::repeat_n(None, steps.iter().flatten().count());
            for (number, step) in steps.iter().copied().chain(served).enumerate() {
                if let Some(name) = step {
                    line.enter(&user(&name.to_string()), (name, number)).unwrap();
                    own.entry(name).or_default().push(number);
                    continue;
                }
                line.places = 1;
                let Some((name, entry)) = line.next() else { continue };
                let first = own.get_mut(&name).unwrap().remove(0);
                prop_assert_eq!(first, entry, "in order within one user");
                turns.retain(|(waits, _), _| *waits != name);
                for (other, _) in own.iter().filter(|(other, left)| **other != name && !left.is_empty()) {
                    let had = turns.entry((*other, name)).or_default();
                    *had += 1;
                    prop_assert!(*had <= 2, "{} has had {} turns while {} waits", name, had, other);
                }
            }
            prop_assert!(line.waiting.is_empty());
        }
    }
}
