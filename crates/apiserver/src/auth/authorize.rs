//! The chain of authorizers that --authorization-mode asks for, behind the one that lets `system:masters` do everything.

use std::sync::Arc;

use async_trait::async_trait;

use super::identity::MASTERS;
use super::node::NodeAuthorizer;
use super::rbac::Rbac;
use super::{Attributes, AuthError, Authorizer, Decision};
use crate::Objects;

/// Which modes are on, for those who report rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    pub always_allow: bool,
    pub rbac: bool,
    pub node: bool,
}

struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _asked: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}

struct AlwaysDeny;

#[async_trait]
impl Authorizer for AlwaysDeny {
    async fn authorize(&self, _asked: &Attributes<'_>) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".into())
    }
}

struct Union(Vec<Arc<dyn Authorizer>>);

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        if asked.user.is_in(MASTERS) {
            return Decision::Allow;
        }
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(asked).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}

/// Upstream's default is AlwaysAllow (pkg/kubeapiserver/options/authorization.go).
pub fn chain(modes: &[String], objects: &Objects, rbac: &Arc<Rbac>) -> Result<(Arc<dyn Authorizer>, Modes), AuthError> {
    let usual = ["AlwaysAllow".to_owned()];
    let modes = if modes.is_empty() { &usual[..] } else { modes };
    let mut on = Modes::default();
    let mut list: Vec<Arc<dyn Authorizer>> = Vec::new();
    for (at, mode) in modes.iter().enumerate() {
        if modes[..at].contains(mode) {
            return Err(AuthError(format!("--authorization-mode names {mode} twice")));
        }
        match mode.as_str() {
            "AlwaysAllow" => {
                on.always_allow = true;
                list.push(Arc::new(AlwaysAllow));
            }
            "AlwaysDeny" => list.push(Arc::new(AlwaysDeny)),
            "Node" => {
                on.node = true;
                list.push(Arc::new(NodeAuthorizer::new(objects.clone())));
            }
            "RBAC" => {
                on.rbac = true;
                list.push(rbac.clone());
            }
            other => {
                return Err(AuthError(format!("--authorization-mode={other} is not available: use AlwaysAllow, AlwaysDeny, Node or RBAC")));
            }
        }
    }
    Ok((Arc::new(Union(list)), on))
}
