//! The Auth service of a server without users: it says that authentication is off and refuses the rest in words.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::core::Core;
use crate::{errors, pb};

pub struct AuthService(pub Arc<Core>);

fn refuse<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "etcdserver: users and roles are not supported: restrict clients with --client-cert-auth and --trusted-ca-file",
    ))
}

macro_rules! refused {
    ($($name:ident $request:ident $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl pb::auth_server::Auth for AuthService {
            async fn auth_status(&self, _request: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
                Ok(Response::new(pb::AuthStatusResponse { header: Some(self.0.header()), enabled: false, auth_revision: 0 }))
            }

            async fn auth_disable(&self, _request: Request<pb::AuthDisableRequest>) -> Result<Response<pb::AuthDisableResponse>, Status> {
                Ok(Response::new(pb::AuthDisableResponse { header: Some(self.0.header()) }))
            }

            async fn authenticate(&self, _request: Request<pb::AuthenticateRequest>) -> Result<Response<pb::AuthenticateResponse>, Status> {
                Err(errors::auth_not_enabled())
            }

            $(async fn $name(&self, _request: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                refuse()
            })*
        }
    };
}

refused! {
    auth_enable AuthEnableRequest AuthEnableResponse,
    user_add AuthUserAddRequest AuthUserAddResponse,
    user_get AuthUserGetRequest AuthUserGetResponse,
    user_list AuthUserListRequest AuthUserListResponse,
    user_delete AuthUserDeleteRequest AuthUserDeleteResponse,
    user_change_password AuthUserChangePasswordRequest AuthUserChangePasswordResponse,
    user_grant_role AuthUserGrantRoleRequest AuthUserGrantRoleResponse,
    user_revoke_role AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse,
    role_add AuthRoleAddRequest AuthRoleAddResponse,
    role_get AuthRoleGetRequest AuthRoleGetResponse,
    role_list AuthRoleListRequest AuthRoleListResponse,
    role_delete AuthRoleDeleteRequest AuthRoleDeleteResponse,
    role_grant_permission AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse,
    role_revoke_permission AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse,
}
