//! The proxy from the usual environment variables, by curl's rules. Connections to this machine use no proxy.

use std::net::Ipv4Addr;

use ureq::Proxy;

/// Looks up an environment variable.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// This process's environment. An empty variable counts as none.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The proxy for `url`, if any. If the address is invalid, the error names the variable but not its value, which may
/// contain a password.
pub(super) fn of(url: &str, variables: Variables) -> Result<Option<Proxy>, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Ok(None);
    };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    if is_excepted(host, variables) {
        return Ok(None);
    }
    let Some((variable, address)) = address(scheme, variables) else {
        return Ok(None);
    };
    Proxy::new(&address).map(Some).map_err(|_| {
        format!(
            "{variable} is not a valid proxy address; expected one like http://user:password@host:port"
        )
    })
}

/// The variable that names the proxy for `scheme`, and the proxy's address.
pub(super) fn address(scheme: &str, variables: Variables) -> Option<(String, String)> {
    [format!("{scheme}_proxy"), "all_proxy".to_owned()]
        .into_iter()
        .flat_map(|name| [name.clone(), name.to_uppercase()])
        .find_map(|name| variables(&name).map(|value| (name, value)))
}

/// Whether the host is this machine, or `no_proxy` lists it or a domain that it is in.
fn is_excepted(host: &str, variables: Variables) -> bool {
    let listed = variables("no_proxy").or_else(|| variables("NO_PROXY"));
    let host = host.to_lowercase();
    if host
        .parse()
        .is_ok_and(|address: Ipv4Addr| address.is_loopback())
    {
        return true;
    }
    listed
        .unwrap_or_default()
        .to_lowercase()
        .split([',', ' '])
        .map(|entry| entry.trim_start_matches("*.").trim_start_matches('.'))
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let within = host.strip_suffix(entry);
            entry == "*" || within.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://www.example.org/file";

    /// The host of the proxy for [`URL`] in an environment with `variables`.
    fn host_in(variables: &[(&str, &str)]) -> Option<String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        of(URL, &find).unwrap().map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn the_variable_for_https_comes_before_the_one_for_all_and_the_one_for_http_does_not_count() {
        let all = ("ALL_PROXY", "all");
        assert_eq!(host_in(&[]), None);
        assert_eq!(host_in(&[("HTTP_PROXY", "http")]), None);
        assert_eq!(host_in(&[all]).unwrap(), "all");
        assert_eq!(host_in(&[("all_proxy", "lower"), all]).unwrap(), "lower");
        assert_eq!(host_in(&[all, ("HTTPS_PROXY", "https")]).unwrap(), "https");
        assert_eq!(host_in(&[all, ("https_proxy", "https")]).unwrap(), "https");
    }

    #[test]
    fn no_proxy_excepts_hosts_and_all_in_a_domain_in_both_spellings() {
        let proxy = ("HTTPS_PROXY", "proxy");
        for entry in [
            "*",
            "www.example.org",
            "localhost,example.org",
            "localhost, .Example.ORG",
            "*.example.org",
        ] {
            assert_eq!(host_in(&[proxy, ("NO_PROXY", entry)]), None, "{entry}");
            assert_eq!(host_in(&[proxy, ("no_proxy", entry)]), None, "{entry}");
        }
        for entry in ["", ",", "ple.org", "ww.example.org", "example.com"] {
            assert!(host_in(&[proxy, ("NO_PROXY", entry)]).is_some(), "{entry}");
        }
    }

    #[test]
    fn no_proxy_leads_to_this_machine() {
        let find = |name: &str| (name == "http_proxy").then(|| "proxy".to_owned());
        assert!(of("http://127.0.0.1:8000/file", &find).unwrap().is_none());
        assert!(of("http://192.0.2.1:8000/file", &find).unwrap().is_some());
    }

    #[test]
    fn a_wrong_address_is_an_error_that_names_the_variable_and_not_the_password() {
        let find = |name: &str| (name == "HTTPS_PROXY").then(|| "ftp://me:secret@host".to_owned());
        let error = of(URL, &find).unwrap_err();
        assert!(
            error.starts_with("HTTPS_PROXY is not a valid proxy address"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn an_address_may_be_a_host_and_a_port_alone_or_one_of_socks() {
        for address in ["proxy.example.org:3128", "socks5h://127.0.0.1:1080"] {
            let find = |name: &str| (name == "all_proxy").then(|| address.to_owned());
            let proxy = of(URL, &find).unwrap().unwrap();
            assert!(address.ends_with(&format!("{}:{}", proxy.host(), proxy.port())));
        }
    }
}
