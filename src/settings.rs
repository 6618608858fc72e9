//! Settings from files, the environment and flags, of any program: nothing here knows what is set.
//!
//! Every source becomes a tree whose values know where they were said; the trees are merged, and a [`Section`] reads
//! typed values from the result and collects everything that is wrong with it.

pub mod pairs;
mod problems;
mod section;
mod tree;
pub mod yaml;

pub use problems::{Problem, Problems};
pub use section::{Section, read};
pub use tree::{Map, Node, Origin, Value};
