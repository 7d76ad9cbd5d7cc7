//! The one window into the state machines of a run: which command a member applied at which place of its log. Off unless a run listens.

use std::cell::RefCell;

use crate::state::Command;

thread_local! {
    static HEARD: RefCell<Option<Vec<(u64, Command)>>> = const { RefCell::new(None) };
}

/// Called by the state machine.
pub(crate) fn applying(index: u64, command: &Command) {
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            // Runs have no users.
            let command = if let Command::As(_, command) = command { command } else { command };
            heard.push((index, command.clone()));
        }
    });
}

/// Listens in this thread until it is dropped.
pub(crate) struct Tap(());

impl Tap {
    pub fn open() -> Self {
        HEARD.set(Some(Vec::new()));
        Self(())
    }

    /// What was applied since the last call.
    pub fn take(&self) -> Vec<(u64, Command)> {
        HEARD.with_borrow_mut(|heard| heard.replace(Vec::new())).unwrap_or_default()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}
