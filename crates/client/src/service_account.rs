//! Clients that act as service accounts, with short-lived tokens asked for by another client and renewed in time: what upstream's controller manager does
//! with `--use-service-account-credentials` (client-go/tools/clientcmd, pkg/controller/client_builder_dynamic.go).

use std::sync::Arc;
use std::time::Duration;

use api::authentication::v1::{TokenRequest, TokenRequestSpec};
use api::core::v1::ServiceAccount;
use api::meta::v1::ObjectMeta;
use http::HeaderValue;
use kube::api::PostParams;
use kube::{Api, Client, Config};
use tokio::time::Instant;
use tower::BoxError;

use crate::connect::{ConnectError, from_config_with};

/// Seconds that a token is asked for; it is renewed after four fifths of them.
const TOKEN_SECONDS: i64 = 3600;

/// Makes clients for the service accounts of one namespace.
pub struct ServiceAccounts {
    root: Client,
    config: Config,
    agent: String,
    namespace: String,
}

impl ServiceAccounts {
    /// `root` may create tokens of the accounts (and the accounts); `config` says where the server is, its credentials are not used.
    pub fn new(root: Client, mut config: Config, agent: &str, namespace: &str) -> Self {
        config.auth_info = kube::config::AuthInfo::default();
        Self { root, config, agent: agent.to_owned(), namespace: namespace.to_owned() }
    }

    /// The client of an account; its first token is asked for with its first request.
    pub fn client(&self, account: &str) -> Result<Client, ConnectError> {
        let tokens = Tokens {
            accounts: Api::namespaced(self.root.clone(), &self.namespace),
            account: account.to_owned(),
            current: tokio::sync::Mutex::new(None),
        };
        from_config_with(self.config.clone(), &format!("{}/{account}", self.agent), None, Some(Arc::new(tokens)))
    }
}

/// The tokens of one account.
pub(crate) struct Tokens {
    accounts: Api<ServiceAccount>,
    account: String,
    current: tokio::sync::Mutex<Option<Token>>,
}

struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

impl Tokens {
    /// `Bearer ...`, renewed where it is due.
    pub async fn header(&self) -> Result<HeaderValue, BoxError> {
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref().filter(|token| token.renew_at > base::clock::monotonic()) {
            return Ok(token.header.clone());
        }
        let fresh = match self.ask().await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.make_account().await?;
                self.ask().await?
            }
            other => other?,
        };
        let text = fresh.status.and_then(|status| status.token).ok_or("the server answered a token request without a token")?;
        let mut header = HeaderValue::from_str(&format!("Bearer {text}"))?;
        header.set_sensitive(true);
        let lifetime = Duration::from_secs(TOKEN_SECONDS.unsigned_abs() * 4 / 5);
        *current = Some(Token { header: header.clone(), renew_at: base::clock::monotonic() + lifetime });
        Ok(header)
    }

    async fn ask(&self) -> Result<TokenRequest, kube::Error> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        self.accounts.create_token_request(&self.account, &PostParams::default(), &request).await
    }

    async fn make_account(&self) -> Result<(), kube::Error> {
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(self.account.clone()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        match self.accounts.create(&PostParams::default(), &account).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            other => other.map(|_| ()),
        }
    }
}
