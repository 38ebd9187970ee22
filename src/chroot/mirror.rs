// SPDX-License-Identifier: ISC
//! Release sets of a mirror: fetched by a child without rights, believed once the signed list of them says so, and kept in
//! the home. There they are sets in a directory like any others.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use super::place::{Home, bytes};
use super::sets::{self, LIST, choose, set_name};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::repository::{Cache, signed_list};
use crate::patch::{Keys, New};
use crate::recipe::{Origin, Recipe};
use crate::source::fetch::{fetch, is_url};
use crate::watch::Watch;

/// Where in the home each mirror has its directory.
const CACHE: &str = "sets";
/// No set is larger: those of today have up to half of it.
const LARGEST: u64 = 1 << 30;
/// Nor is a list.
const MAX_LIST: u64 = 1 << 20;

/// The recipe with the sets that it takes from a mirror in a directory of the home, where they are brought first.
///
/// # Errors
/// [`ErrorKind::Unverified`] for a list or set that is not what was signed; whatever the network says.
pub(crate) fn local(home: &Home, recipe: &Recipe, watch: &Watch) -> Result<Recipe> {
    let mut recipe = recipe.clone();
    for source in &mut recipe.sources {
        let Origin::Sets { directory, names, key, unsigned } = &mut source.origin else { continue };
        let Some(url) = directory.to_str().filter(|url| is_url(url)).map(|url| url.trim_end_matches('/').to_owned())
        else {
            continue;
        };
        if *unsigned {
            let error = Error::new(ErrorKind::Refused, "sets of the network are not trusted without a signature");
            return Err(error.at(&url).hint("fetch them yourself, and name their directory with --from"));
        }
        let keys = match key {
            Some(key) => vec![key.clone()],
            None => sets::keys(),
        };
        home.open()?;
        let cache = home.path.join(CACHE).join(url.replace('%', "%25").replace('/', "%2F"));
        bring(&url, &cache, names, &Keys::load(&keys)?, watch)
            .map_err(|error| if error.path().is_none() { error.at(&url) } else { error })?;
        *directory = cache;
    }
    Ok(recipe)
}

/// Brings the sets `names` into the directory `to`, where nothing else is left.
fn bring(url: &str, to: &Path, names: &[String], keys: &Keys, watch: &Watch) -> Result<()> {
    let mut get = |name: &str, range: Range<u64>, to: &mut dyn Write| fetch(&format!("{url}/{name}"), range, to, watch);
    watch.begin("fetching", 0);
    let mut signed = Vec::new();
    get(LIST, 0..MAX_LIST, &mut signed)?;
    let (list, _) = signed_list(keys, &mut |_: &str, _, to: &mut dyn Write| to.write_all(&signed).on("write", LIST))?;
    let names_listed = list.names();
    let listed = names_listed.iter().filter_map(|name| set_name(std::str::from_utf8(name).ok()?));
    let listed: Vec<_> = listed.map(|(set, digits)| (set.to_owned(), digits.to_owned())).collect();
    let digits = choose(&listed, names)?;
    let files: Vec<String> = names.iter().map(|name| format!("{name}{digits}.tgz")).collect();
    let cache = Cache::open(to)?;
    for file in &files {
        let Some(digest) = list.find(file.as_bytes()) else {
            return Err(Error::new(ErrorKind::Unverified, "the list has no SHA-256 of it").at(file.as_bytes()));
        };
        cache.bring(file, (digest, LARGEST), &mut get)?;
    }
    let path = to.join(LIST);
    let mut new = New::create(&path, 0o600)?;
    new.file().write_all(&signed).on("write", bytes(&path))?;
    new.commit()?;
    // What an earlier release left would be one release too many.
    for entry in fs::read_dir(to).on("open", bytes(to))? {
        let entry = entry.on("getdents", bytes(to))?;
        let name = entry.file_name();
        let stale = name.to_str().and_then(set_name).is_some() && !files.iter().any(|file| **file == *name);
        if stale {
            fs::remove_file(entry.path()).on("unlink", bytes(&entry.path()))?;
        }
    }
    Ok(())
}
