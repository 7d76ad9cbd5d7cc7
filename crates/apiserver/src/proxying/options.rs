//! Flags of the connection to kubelets, with upstream's names and defaults.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug)]
pub struct KubeletClientOptions {
    /// The client certificate that kubelets see
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// The authority of kubelets' serving certificates; without one they are not verified
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Node address types in the order of preference
    #[arg(long, value_delimiter = ',', default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP")]
    pub kubelet_preferred_address_types: Vec<String>,
}

impl Default for KubeletClientOptions {
    fn default() -> Self {
        Self {
            kubelet_client_certificate: None,
            kubelet_client_key: None,
            kubelet_certificate_authority: None,
            kubelet_preferred_address_types: ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"].map(String::from).to_vec(),
        }
    }
}
