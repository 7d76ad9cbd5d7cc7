//! Where a member's loop writes how it stands, for everybody to read without asking it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{MemberOptions, RaftStatus};

#[derive(Debug)]
pub(crate) struct Board {
    status: Mutex<RaftStatus>,
    /// Told when leader, role or `stopped` change.
    changes: watch::Sender<RaftStatus>,
    /// This member is the only voter, leads, and has applied all that is committed: what it has is what there is.
    alone: AtomicBool,
    stopped: AtomicBool,
    /// Who should lead when this member goes; 0: nobody can.
    successor: AtomicU64,
}

impl Board {
    pub fn new(options: &MemberOptions) -> Self {
        let status = RaftStatus { cluster_id: options.cluster_id, member_id: options.member_id, ..RaftStatus::default() };
        Self {
            changes: watch::Sender::new(status.clone()),
            status: Mutex::new(status),
            alone: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            successor: AtomicU64::new(0),
        }
    }

    pub fn publish(&self, status: RaftStatus, alone: bool) {
        self.alone.store(alone, Ordering::Release);
        self.stopped.store(status.stopped.is_some(), Ordering::Release);
        let told = |status: &RaftStatus| (status.leader, status.role, status.is_learner, status.stopped.clone());
        let mut shown = self.status.lock();
        let news = told(&shown) != told(&status);
        *shown = status;
        if news {
            self.changes.send_replace(shown.clone());
        }
    }

    pub fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    pub fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub fn set_successor(&self, successor: u64) {
        self.successor.store(successor, Ordering::Relaxed);
    }

    pub fn successor(&self) -> Option<u64> {
        Some(self.successor.load(Ordering::Relaxed)).filter(|successor| *successor != 0)
    }

    pub fn status(&self) -> RaftStatus {
        self.status.lock().clone()
    }

    pub fn changes(&self) -> watch::Receiver<RaftStatus> {
        self.changes.subscribe()
    }
}
