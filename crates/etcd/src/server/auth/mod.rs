//! The Auth service and the gate in front of all services: who a request comes from, and what is asked of him before it is looked into. What a user may do
//! with keys is decided in the store.

mod gate;
mod jwt;
mod needs;
mod password;

use std::sync::Arc;

use store::{AuthCommand, AuthError, KeyRange, KvError, PasswordHash, Permission, PermissionKind};
use tonic::{Request, Response, Status};

pub use self::gate::{Gate, PeerName, token_ttl};
use super::core::Core;
use crate::pb::authpb;
use crate::{convert, pb};

pub struct AuthService(pub Arc<Core>);

impl AuthService {
    /// Changes users or roles in the name of whoever asks.
    async fn change<T>(&self, request: &Request<T>, command: AuthCommand) -> Result<Option<pb::ResponseHeader>, Status> {
        let what = format!("{command:?}");
        self.0.engine_for(request).change_auth(command).await.map_err(|error| self.0.refuse(error))?;
        tracing::info!(what, "users or roles changed");
        Ok(Some(self.0.header()))
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.0.header())
    }
}

#[tonic::async_trait]
impl pb::auth_server::Auth for AuthService {
    async fn auth_enable(&self, request: Request<pb::AuthEnableRequest>) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let header = self.change(&request, AuthCommand::Enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(&self, request: Request<pb::AuthDisableRequest>) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = self.change(&request, AuthCommand::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(&self, request: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let status = self.0.engine_for(&request).auth_status().await.map_err(|error| self.0.refuse(error))?;
        let (header, enabled, auth_revision) = (self.header(), status.enabled, status.revision);
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision }))
    }

    async fn authenticate(&self, request: Request<pb::AuthenticateRequest>) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.0.gate.log_in(&self.0.engine, name, password).await.map_err(|refusal| refusal.status(&self.0))?;
        Ok(Response::new(pb::AuthenticateResponse { header: self.header(), token }))
    }

    async fn user_add(&self, mut request: Request<pb::AuthUserAddRequest>) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let pb::AuthUserAddRequest { name, password, options, hashed_password: _ } = std::mem::take(request.get_mut());
        let no_password = options.is_some_and(|options| options.no_password);
        let password = if no_password { PasswordHash::default() } else { self.0.gate.passwords.hash(password).await? };
        let header = self.change(&request, AuthCommand::UserAdd { name, password, no_password }).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(&self, request: Request<pb::AuthUserGetRequest>) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let roles = engine.user_roles(&request.get_ref().name).await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::AuthUserGetResponse { header: self.header(), roles }))
    }

    async fn user_list(&self, request: Request<pb::AuthUserListRequest>) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let users = self.0.engine_for(&request).user_names().await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::AuthUserListResponse { header: self.header(), users }))
    }

    async fn user_delete(&self, mut request: Request<pb::AuthUserDeleteRequest>) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let pb::AuthUserDeleteRequest { name } = std::mem::take(request.get_mut());
        let header = self.change(&request, AuthCommand::UserDelete { name }).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        mut request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let pb::AuthUserChangePasswordRequest { name, password, hashed_password } = std::mem::take(request.get_mut());
        // Without a new password the hash counts that came along, if any: an empty one lets nobody in.
        let password =
            if password.is_empty() { password::from_base64(&hashed_password)? } else { self.0.gate.passwords.hash(password).await? };
        let header = self.change(&request, AuthCommand::UserChangePassword { name, password }).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        mut request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let pb::AuthUserGrantRoleRequest { user, role } = std::mem::take(request.get_mut());
        let header = self.change(&request, AuthCommand::UserGrantRole { user, role }).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        mut request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let pb::AuthUserRevokeRoleRequest { name: user, role } = std::mem::take(request.get_mut());
        let header = self.change(&request, AuthCommand::UserRevokeRole { user, role }).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(&self, mut request: Request<pb::AuthRoleAddRequest>) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let pb::AuthRoleAddRequest { name } = std::mem::take(request.get_mut());
        let header = self.change(&request, AuthCommand::RoleAdd { name }).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(&self, request: Request<pb::AuthRoleGetRequest>) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let permissions = engine.role_permissions(&request.get_ref().role).await.map_err(|error| self.0.refuse(error))?;
        let perm = permissions.into_iter().map(permission_to_pb).collect();
        Ok(Response::new(pb::AuthRoleGetResponse { header: self.header(), perm }))
    }

    async fn role_list(&self, request: Request<pb::AuthRoleListRequest>) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let roles = self.0.engine_for(&request).role_names().await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::AuthRoleListResponse { header: self.header(), roles }))
    }

    async fn role_delete(&self, mut request: Request<pb::AuthRoleDeleteRequest>) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let pb::AuthRoleDeleteRequest { role: name } = std::mem::take(request.get_mut());
        let header = self.change(&request, AuthCommand::RoleDelete { name }).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        mut request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let pb::AuthRoleGrantPermissionRequest { name: role, perm } = std::mem::take(request.get_mut());
        let permission = permission_from_pb(perm).map_err(|error| self.0.refuse(error.into()))?;
        let header = self.change(&request, AuthCommand::RoleGrantPermission { role, permission }).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        mut request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = std::mem::take(request.get_mut());
        let range = convert::key_range(key, range_end);
        let header = self.change(&request, AuthCommand::RoleRevokePermission { role, range }).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }
}

fn permission_from_pb(permission: Option<authpb::Permission>) -> Result<Permission, AuthError> {
    use authpb::permission::Type;
    let authpb::Permission { perm_type, key, range_end } = permission.ok_or(AuthError::PermissionNotGiven)?;
    let kind = match Type::try_from(perm_type) {
        Ok(Type::Read) => PermissionKind::Read,
        Ok(Type::Write) => PermissionKind::Write,
        Ok(Type::Readwrite) => PermissionKind::ReadWrite,
        // etcd stores it and gives nothing for it.
        Err(_) => return Err(AuthError::InvalidAuthMgmt),
    };
    Ok(Permission { kind, range: convert::key_range(key, range_end) })
}

fn permission_to_pb(permission: Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let perm_type = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    let KeyRange { key, end } = permission.range;
    authpb::Permission { perm_type: perm_type.into(), key, range_end: end.unwrap_or_default() }
}

/// Why somebody cannot log in.
enum Refusal {
    Store(KvError),
    /// Tokens are signed elsewhere.
    CannotSign,
}

impl From<KvError> for Refusal {
    fn from(error: KvError) -> Self {
        Self::Store(error)
    }
}

impl Refusal {
    fn status(self, core: &Core) -> Status {
        match self {
            Self::Store(error) => core.refuse(error),
            // server/auth/store.go, ErrVerifyOnly, which has no text of its own on the wire.
            Self::CannotSign => Status::unknown("auth: token signing attempted with verify-only key"),
        }
    }
}
