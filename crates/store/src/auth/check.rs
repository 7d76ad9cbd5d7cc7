//! Who may do what (server/etcdserver/apply/apply_auth.go, checkTxnAuth in server/etcdserver/txn). Everything is allowed while authentication is off.
//!
//! Unlike in some versions of etcd, the parts of nested transactions, `prev_kv` and leases inside transactions and open-ended watches are checked as those
//! outside are (its advisories GHSA-rfx7-8w68-q57q, GHSA-x35m-3gp4-4fh5, GHSA-q8m4-xhhv-38mg, GHSA-xg4h-6gfc-h4m8).

use bytes::Bytes;

use super::access::Access;
use super::{Auth, AuthCommand, AuthError, Caller};
use crate::kv::{KeyRange, LeaseId, Op, PutRequest, Txn};
use crate::lease::Leases;
use crate::state::Command;

/// What a caller may touch: everything, or what his roles give him.
enum Reach<'a> {
    All,
    Only(&'a Access),
}

impl Reach<'_> {
    fn demand(&self, allowed: impl Fn(&Access) -> bool) -> Result<(), AuthError> {
        match self {
            Self::All => Ok(()),
            Self::Only(access) if allowed(access) => Ok(()),
            Self::Only(_) => Err(AuthError::PermissionDenied),
        }
    }

    fn read(&self, range: &KeyRange) -> Result<(), AuthError> {
        self.demand(|access| access.may_read(range))
    }

    fn write(&self, range: &KeyRange) -> Result<(), AuthError> {
        self.demand(|access| access.may_write(range))
    }

    /// Whoever may end a lease or put a key on it must be able to delete all its keys.
    fn write_lease(&self, id: LeaseId, leases: &Leases) -> Result<(), AuthError> {
        self.demand(|access| leases.keys_of(id).all(|key| access.may_write_key(key)))
    }

    fn put(&self, request: &PutRequest, leases: &Leases) -> Result<(), AuthError> {
        self.demand(|access| access.may_write_key(&request.key))?;
        self.write_lease(request.lease, leases)?;
        if request.prev_kv { self.demand(|access| access.may_read_key(&request.key)) } else { Ok(()) }
    }

    fn txn(&self, txn: &Txn, leases: &Leases) -> Result<(), AuthError> {
        for compare in &txn.compare {
            self.read(&compare.range)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(request) => self.read(&request.range)?,
                Op::Put(request) => self.put(request, leases)?,
                Op::Delete(request) => {
                    self.write(&request.range)?;
                    if request.prev_kv {
                        self.read(&request.range)?;
                    }
                }
                Op::Txn(inner) => self.txn(inner, leases)?,
            }
        }
        Ok(())
    }
}

impl Auth {
    /// Checks a command at the moment when it is applied.
    pub fn check(&self, caller: &Caller, command: &Command, leases: &Leases) -> Result<(), AuthError> {
        if !self.is_enabled() || *caller == Caller::Server {
            return Ok(());
        }
        match command {
            Command::Txn(txn) => self.check_txn(caller, txn, leases),
            Command::LeaseRevoke(id) => self.reach(caller)?.write_lease(*id, leases),
            Command::LeaseGrant { .. } | Command::Compact(_) => self.check_known(caller),
            // Its right is the password, which was checked before.
            Command::Auth(AuthCommand::Authenticate { .. }) => Ok(()),
            Command::Auth(_) | Command::Alarm(..) => self.check_root(caller),
            // Not for clients to send: whoever proposes it has checked what there is to check.
            _ => Ok(()),
        }
    }

    pub fn check_txn(&self, caller: &Caller, txn: &Txn, leases: &Leases) -> Result<(), AuthError> {
        self.reach(caller)?.txn(txn, leases)
    }

    pub fn check_read(&self, caller: &Caller, range: &KeyRange) -> Result<(), AuthError> {
        self.reach(caller)?.read(range)
    }

    /// Renewing a lease is a write to its keys.
    pub fn check_renew(&self, caller: &Caller, id: LeaseId, leases: &Leases) -> Result<(), AuthError> {
        self.reach(caller)?.write_lease(id, leases)
    }

    pub fn check_keys(&self, caller: &Caller, keys: &[Bytes]) -> Result<(), AuthError> {
        self.reach(caller)?.demand(|access| keys.iter().all(|key| access.may_read_key(key)))
    }

    pub fn check_all_leases(&self, caller: &Caller, leases: &Leases) -> Result<(), AuthError> {
        self.reach(caller)?.demand(|access| leases.ids().into_iter().all(|id| leases.keys_of(id).all(|key| access.may_read_key(key))))
    }

    /// Somebody, whoever it is.
    pub fn check_known(&self, caller: &Caller) -> Result<(), AuthError> {
        if self.is_enabled() && *caller == Caller::Anonymous { Err(AuthError::UserEmpty) } else { Ok(()) }
    }

    /// Somebody with the root role. What a signed token said of the time when it was given out does not matter, as in etcd: the role counts now.
    pub fn check_root(&self, caller: &Caller) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        match caller {
            Caller::Server => Ok(()),
            Caller::Anonymous => Err(AuthError::UserEmpty),
            Caller::User { name, .. } => match self.record.users.get(name) {
                Some(user) if user.is_root() => Ok(()),
                _ => Err(AuthError::PermissionDenied),
            },
        }
    }

    /// The root role, or to be this user.
    pub fn check_about_user(&self, caller: &Caller, user: &str) -> Result<(), AuthError> {
        let is_own = matches!(caller, Caller::User { name, .. } if name == user);
        if is_own { Ok(()) } else { self.check_root(caller) }
    }

    /// The root role, or to have this role.
    pub fn check_about_role(&self, caller: &Caller, role: &str) -> Result<(), AuthError> {
        let has = |name| self.record.users.get(name).is_some_and(|user: &super::User| user.roles.contains(role));
        let is_own = matches!(caller, Caller::User { name, .. } if has(name));
        if is_own { Ok(()) } else { self.check_root(caller) }
    }

    fn reach(&self, caller: &Caller) -> Result<Reach<'_>, AuthError> {
        if !self.is_enabled() {
            return Ok(Reach::All);
        }
        let (name, revision) = match caller {
            Caller::Server => return Ok(Reach::All),
            Caller::Anonymous => return Err(AuthError::UserEmpty),
            Caller::User { name, revision } => (name, *revision),
        };
        if revision < self.revision() {
            return Err(AuthError::AuthOldRevision);
        }
        let user = self.record.users.get(name).ok_or(AuthError::PermissionDenied)?;
        if user.is_root() {
            return Ok(Reach::All);
        }
        self.access.get(name).map(Reach::Only).ok_or(AuthError::PermissionDenied)
    }
}
