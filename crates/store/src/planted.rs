//! Mistakes that a test switches on, one at a time, to see that the simulation finds them. Only test builds know them: elsewhere `planted!` is `false`.

#[cfg(test)]
use std::cell::Cell;

/// Whether the mistake is switched on in this thread.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_on($crate::planted::Bug::$bug)
    };
}

#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;

#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The log says that a record is durable without asking the disk.
    SkipFsync,
    /// A writer is answered before its record is in the log.
    AnswerBeforeCommit,
    /// A command is applied, and seen by readers, before its record is in the log.
    ApplyBeforeCommit,
    /// A start takes a frame of the log although its checksum is wrong.
    TornTailAccepted,
    /// A start takes damage in the middle of the log for its end.
    DamageTakenForTheEnd,
    /// The checkpoint says less than what is in it (etcd 3.5.0 to 3.5.2, the consistent index): the log is applied twice.
    SavedWithoutIndex,
    /// The checkpoint is written with an index that its content has not reached.
    SavedAheadOfContent,
    /// The log is shortened before the checkpoint that replaces it is written.
    LogCutBeforeSave,
    /// Only the first change of a transaction is done when there are many.
    TxnHalfApplied,
    /// A watch from a compacted revision goes on with what is left.
    WatchGapOnCompaction,
    /// A progress mark is sent while events before it wait.
    ProgressAheadOfEvents,
    /// A watch that catches up skips the first revision after its history.
    WatchLostOnSwitch,
    /// A revision's events are split between two responses.
    WatchSplitsRevision,
    /// A delivered event comes again after a watcher was behind.
    WatchRepeats,
    /// A deletion is swept before what it deleted, so that the key is back.
    DeletedKeyVisible,
    /// A compaction removes the newest version that its revision still shows.
    CompactedTooMuch,
    /// A key keeps its place at a lease that it left, and goes when that ends.
    StaleAttachment,
    /// A restart forgets which keys hang on a lease.
    AttachmentsForgotten,
    /// A keep-alive is answered but does not move the deadline.
    RenewalLost,
    /// A lease that is about to be ended can still be renewed.
    RenewedWhileEnding,
    /// A shortened lease time stays on record after a renewal: a restart ends the lease early.
    CheckpointOutlivesRenewal,
    /// An old revision is read as of now.
    OldReadSeesNew,
    /// A follower tells the leader that it has entries before they are on its disk.
    AckBeforeSync,
    /// A leader applies, and answers, what no other member has yet.
    AppliedBeforeQuorum,
    /// A member answers linearizable reads from its own state.
    ReadIndexSkipped,
    /// A leader renews leases without knowing whether it still leads.
    StaleLeaderRenews,
    /// A new leader ends leases by the deadlines that it had as a follower.
    LeasesNotExtended,
    /// A follower sends a request again that it has sent to the leader already.
    ProposedAgain,
    /// Term and vote are not written.
    VoteNotPersisted,
    /// A start keeps entries of the log that others have replaced.
    ConflictSuffixKept,
    /// A snapshot says that it is one entry further than its content is.
    SnapshotAheadOfContent,
    /// Watches are not told that a snapshot has replaced the state.
    WatchLostOnSnapshot,
}

#[cfg(test)]
thread_local! {
    static ON: Cell<Option<Bug>> = const { Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn is_on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Runs `work` with the mistake switched on in this thread.
#[cfg(test)]
pub(crate) fn with<R>(bug: Option<Bug>, work: impl FnOnce() -> R) -> R {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
    ON.set(bug);
    let _off = Off;
    work()
}
