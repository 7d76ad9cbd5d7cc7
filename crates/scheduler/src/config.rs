//! Flags and the configuration file (kubescheduler.config.k8s.io/v1 KubeSchedulerConfiguration), upstream's names and defaults.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::SchedulerError;
use crate::cycle::Profile;
use crate::plugins::{self, BUILT_IN};

pub const DEFAULT_SCHEDULER_NAME: &str = "default-scheduler";

/// kube-scheduler's flags.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Configuration file; its values go before those of flags
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// kubeconfig file with the API server and the scheduler's credentials
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Address to serve health and metrics on
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: std::net::IpAddr,
    /// Port to serve health and metrics on; 0 serves none
    #[arg(long, default_value_t = 10259)]
    pub secure_port: u16,
    /// Run only while holding a lease, so that one of several schedulers is active
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Log verbosity, 0 to 10
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: None,
            kubeconfig: None,
            bind_address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            secure_port: 10259,
            leader_elect: true,
            verbosity: 0,
        }
    }
}

/// What the configuration file may say; unknown fields are errors, as upstream decodes strictly.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigFile {
    api_version: String,
    kind: String,
    pub parallelism: Option<u32>,
    pub leader_election: Option<LeaderElection>,
    pub client_connection: Option<ClientConnection>,
    percentage_of_nodes_to_score: Option<usize>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    profiles: Vec<ProfileFile>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElection {
    pub leader_elect: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ProfileFile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<usize>,
    plugins: PluginsFile,
    /// Arguments of plugins; none of those that are there takes any yet.
    plugin_config: Vec<serde_json::Value>,
}

/// `multiPoint` switches plugins on and off and sets weights; `score` sets weights.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PluginsFile {
    multi_point: PluginSet,
    score: PluginSet,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PluginSet {
    enabled: Vec<PluginName>,
    disabled: Vec<PluginName>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PluginName {
    name: String,
    weight: Option<i64>,
}

impl ConfigFile {
    pub fn parse(text: &str) -> Result<Self, SchedulerError> {
        let file: Self = serde_saphyr::from_str(text).map_err(|error| SchedulerError::Config(error.to_string()))?;
        if file.api_version != "kubescheduler.config.k8s.io/v1" || file.kind != "KubeSchedulerConfiguration" {
            return Err(SchedulerError::Config(format!(
                "apiVersion {:?}, kind {:?}: wanted kubescheduler.config.k8s.io/v1, KubeSchedulerConfiguration",
                file.api_version, file.kind
            )));
        }
        Ok(file)
    }

    pub fn initial_backoff(&self) -> Duration {
        Duration::from_secs(self.pod_initial_backoff_seconds.unwrap_or(1))
    }

    pub fn max_backoff(&self) -> Duration {
        Duration::from_secs(self.pod_max_backoff_seconds.unwrap_or(10))
    }

    /// The profiles; the default one where the file names none.
    pub fn profiles(&self) -> Result<Vec<Profile>, SchedulerError> {
        let share = self.percentage_of_nodes_to_score.unwrap_or(0);
        if self.profiles.is_empty() {
            return Ok(vec![profile(&ProfileFile::default(), share)?]);
        }
        let profiles: Vec<Profile> = self.profiles.iter().map(|file| profile(file, share)).collect::<Result<_, _>>()?;
        for (at, one) in profiles.iter().enumerate() {
            if profiles[..at].iter().any(|other| other.scheduler_name == one.scheduler_name) {
                return Err(SchedulerError::Config(format!("profiles[{at}].schedulerName: Duplicate value: {:?}", one.scheduler_name)));
            }
        }
        Ok(profiles)
    }
}

fn profile(file: &ProfileFile, percentage: usize) -> Result<Profile, SchedulerError> {
    let name = file.scheduler_name.clone().unwrap_or_else(|| DEFAULT_SCHEDULER_NAME.into());
    let mut list = plugins::defaults();
    let known = |plugin: &str| plugin == "*" || BUILT_IN.contains(&plugin) || plugins::defaults().iter().any(|r| r.plugin.name() == plugin);
    for set in [&file.plugins.multi_point, &file.plugins.score] {
        for plugin in set.enabled.iter().chain(&set.disabled) {
            if !known(&plugin.name) {
                return Err(SchedulerError::Config(format!("profile {name:?} names plugin {:?}, which is not there", plugin.name)));
            }
        }
    }
    let points = &file.plugins.multi_point;
    list.retain(|registered| {
        let named = |set: &[PluginName]| set.iter().any(|plugin| plugin.name == registered.plugin.name());
        let all_off = points.disabled.iter().any(|plugin| plugin.name == "*");
        named(&points.enabled) || !(all_off || named(&points.disabled))
    });
    for registered in &mut list {
        let weights = points.enabled.iter().chain(&file.plugins.score.enabled);
        if let Some(weight) = weights.filter(|plugin| plugin.name == registered.plugin.name()).find_map(|plugin| plugin.weight) {
            registered.weight = weight;
        }
        let unscored = &file.plugins.score.disabled;
        if unscored.iter().any(|plugin| plugin.name == "*" || plugin.name == registered.plugin.name())
            && !file.plugins.score.enabled.iter().any(|plugin| plugin.name == registered.plugin.name())
        {
            registered.weight = 0;
        }
    }
    if !file.plugin_config.is_empty() {
        tracing::warn!(profile = name, "pluginConfig is read but no plugin takes arguments yet");
    }
    Ok(Profile {
        scheduler_name: name,
        plugins: list,
        percentage_of_nodes_to_score: file.percentage_of_nodes_to_score.unwrap_or(percentage),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

    #[test]
    fn profiles_switch_plugins_and_weights() {
        let text = format!(
            "{HEAD}podMaxBackoffSeconds: 20\nprofiles:\n- schedulerName: packed\n  plugins:\n    multiPoint:\n      disabled:\n      - name: ImageLocality\n    score:\n      enabled:\n      - name: NodeAffinity\n        weight: 7\n"
        );
        let file = ConfigFile::parse(&text).unwrap();
        assert_eq!(file.max_backoff(), Duration::from_secs(20));
        let profiles = file.profiles().unwrap();
        assert_eq!(profiles[0].scheduler_name, "packed");
        assert!(profiles[0].plugins.iter().all(|r| r.plugin.name() != "ImageLocality"));
        assert_eq!(profiles[0].plugins.iter().find(|r| r.plugin.name() == "NodeAffinity").map(|r| r.weight), Some(7));
    }

    #[test]
    fn mistakes_are_named() {
        let fault =
            |text: &str| ConfigFile::parse(text).and_then(|file| file.profiles()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(fault("apiVersion: v1\nkind: Pod\n").contains("wanted kubescheduler.config.k8s.io/v1"));
        assert!(fault(&format!("{HEAD}percent: 3\n")).contains("percent"));
        assert!(fault(&format!("{HEAD}profiles:\n- plugins:\n    multiPoint:\n      enabled:\n      - name: Nope\n")).contains("\"Nope\""));
        assert!(fault(&format!("{HEAD}profiles:\n- schedulerName: a\n- schedulerName: a\n")).contains("Duplicate"));
    }
}
