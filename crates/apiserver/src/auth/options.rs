//! Flags of authentication and authorization, with upstream's names and defaults.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug)]
pub struct AuthOptions {
    /// Client certificates signed by one of these authorities are trusted: CN is the user, O the groups.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Keys (private or public, PEM) that verify service-account tokens.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// The private key that signs service-account tokens.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Issuer of service-account tokens; the first signs, all are accepted.
    #[arg(long)]
    pub service_account_issuer: Vec<String>,
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    /// Audiences of the API; the issuer where none is set.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    #[arg(long)]
    pub service_account_max_token_expiration: Option<String>,
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub service_account_extend_token_expiration: bool,
    /// Modes in order: AlwaysAllow, AlwaysDeny, Node, RBAC.
    #[arg(long, value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub anonymous_auth: bool,
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_bootstrap_token_auth: bool,
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

/// What the flags are when none is given.
impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            client_ca_file: None,
            service_account_key_file: Vec::new(),
            service_account_signing_key_file: None,
            service_account_issuer: Vec::new(),
            service_account_jwks_uri: None,
            api_audiences: Vec::new(),
            service_account_max_token_expiration: None,
            service_account_extend_token_expiration: true,
            authorization_mode: Vec::new(),
            anonymous_auth: true,
            token_auth_file: None,
            enable_bootstrap_token_auth: false,
            requestheader_client_ca_file: None,
            requestheader_allowed_names: Vec::new(),
            requestheader_username_headers: Vec::new(),
            requestheader_group_headers: Vec::new(),
            requestheader_extra_headers_prefix: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        auth: AuthOptions,
    }

    #[test]
    fn defaults_are_those_of_the_flags() {
        let parsed = Line::parse_from(["kube-apiserver"]).auth;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", AuthOptions::default()));
    }
}
