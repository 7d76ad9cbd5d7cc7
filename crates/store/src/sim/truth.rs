//! The log of a run as its members applied it: what each of them did must be the same thing at the same place, before and after every restart.

use super::history::{Entry, Moment};
use crate::codec;
use crate::state::Command;

#[derive(Default)]
pub(crate) struct Truth {
    entries: Vec<Entry>,
    encoded: Vec<Vec<u8>>,
}

impl Truth {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A member applied a command. `Ok(true)`: nobody had before.
    pub fn heard(&mut self, node: usize, index: u64, command: &Command, at: Moment) -> Result<bool, String> {
        let encoded = codec::encode(command);
        let found = self.entries.binary_search_by_key(&index, |entry| entry.index);
        match found {
            Ok(place) if self.encoded[place] == encoded => Ok(false),
            Ok(place) => Err(format!(
                "in step {} member {node} applied as command {index} {command:?}, which was {:?} in step {}",
                at.step, self.entries[place].command, self.entries[place].applied.step
            )),
            Err(place) if place == self.entries.len() => {
                self.entries.push(Entry { index, command: command.clone(), applied: at });
                self.encoded.push(encoded);
                Ok(true)
            }
            Err(_) => Err(format!("in step {} member {node} applied a command {index} that nobody had before: {command:?}", at.step)),
        }
    }
}
