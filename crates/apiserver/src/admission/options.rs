//! Flags of admission, with upstream's names.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug)]
pub struct AdmissionOptions {
    /// Plugins to enable beside the default ones.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Plugins to leave out.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    /// How long pods stay on a node that is not ready, unless they say otherwise.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// How long pods stay on a node that cannot be reached, unless they say otherwise.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            enable_admission_plugins: Vec::new(),
            disable_admission_plugins: Vec::new(),
            admission_control_config_file: None,
            default_not_ready_toleration_seconds: 300,
            default_unreachable_toleration_seconds: 300,
        }
    }
}
