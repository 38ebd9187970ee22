// SPDX-License-Identifier: ISC
//! Reading an archive into the stage: one thread decodes, one parses, the rest hash and write.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use crate::apply::{self, Slot, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::source::archive::{Archive, Body, Contents};
use crate::tree::{Digest, Kind, Node};
use crate::watch::Watch;

/// Batches that wait for a writer.
const WAITING: usize = 4;

/// A batch is full with this many bytes or bodies: enough to make the hand-over cheap, few enough to keep all writers
/// busy. With its last body it is at most a small body longer, so this bounds the memory.
const BATCH: (usize, usize) = (256 << 10, 64);

/// A body that was read: its digest, and where it was staged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) digest: Digest,
    pub(crate) slot: Option<Slot>,
}

/// What becomes of a body.
pub(crate) enum Fate {
    /// It is passed over.
    Skip,
    /// Only its digest is wanted.
    Hash,
    /// It is staged as this node, which may differ from the archive's own in path and metadata.
    Stage(Node),
}

/// What [`ingest`] does with the bodies.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a> {
    /// Where bodies go.
    pub(crate) stage: &'a Stage,
    /// What becomes of the body of a node.
    pub(crate) fate: &'a (dyn Fn(&Node) -> Fate + Sync),
    /// How many threads write.
    pub(crate) writers: usize,
}

/// Reads `archive` to its end. Returns what it holds and what became of each body, by its number.
///
/// # Errors
/// Whatever reading or staging says first.
pub(crate) fn ingest(archive: &Archive, sink: Sink<'_>, watch: &Watch) -> Result<(Contents, HashMap<u32, Taken>)> {
    let shared = Shared::default();
    let (send, receive) = sync_channel::<Vec<Job>>(WAITING);
    let receive = Mutex::new(receive);
    let contents = std::thread::scope(|scope| {
        for _ in 0..sink.writers {
            scope.spawn(|| write_all(&receive, sink, &shared, watch));
        }
        let contents = read(archive, &send, sink, &shared, watch);
        drop(send);
        contents
    });
    if let Some(error) = shared.failed.into_inner().unwrap_or_default() {
        return Err(error);
    }
    Ok((contents?, shared.done.into_inner().unwrap_or_default()))
}

/// A body on its way to a writer.
type Job = (u32, Fate, Vec<u8>);

/// What the threads of one archive share.
#[derive(Default)]
struct Shared {
    done: Mutex<HashMap<u32, Taken>>,
    failed: Mutex<Option<Error>>,
}

impl Shared {
    fn note(&self, taken: Vec<(u32, Taken)>) {
        if let Ok(mut done) = self.done.lock() {
            done.extend(taken);
        }
    }

    fn fail(&self, error: Error) {
        if let Ok(mut first) = self.failed.lock() {
            first.get_or_insert(error);
        }
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().is_ok_and(|failed| failed.is_some())
    }
}

fn read(
    archive: &Archive,
    send: &SyncSender<Vec<Job>>,
    sink: Sink<'_>,
    shared: &Shared,
    watch: &Watch,
) -> Result<Contents> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut visit = |number: u32, node: &Node, body: Body<'_>| {
        if shared.has_failed() {
            return Err(stopped());
        }
        let fate = (sink.fate)(node);
        match body {
            _ if matches!(fate, Fate::Skip) => {}
            Body::Small(body) => {
                bytes += body.len();
                batch.push((number, fate, body));
                if bytes >= BATCH.0 || batch.len() >= BATCH.1 {
                    bytes = 0;
                    send.send(std::mem::take(&mut batch)).map_err(|_| stopped())?;
                }
            }
            Body::Stream { reader, map } => {
                let size = node.size();
                let sparse = map.is_some();
                let mut whole = Body::Stream { reader, map }.whole(size);
                let taken = match fate {
                    Fate::Stage(node) if sparse => staged(sink, &node, apply::Body::Sparse(&mut whole), watch)?,
                    Fate::Stage(node) => staged(sink, &node, apply::Body::Stream(&mut whole), watch)?,
                    _ => hashed(&mut whole).map_err(|e| Error::io("read", &node.path, &e))?,
                };
                shared.note(vec![(number, taken)]);
            }
        }
        Ok(())
    };
    let contents = archive.read(&mut visit, watch)?;
    send.send(batch).map_err(|_| stopped())?;
    Ok(contents)
}

/// One writer: takes bodies until there are no more.
fn write_all(queue: &Mutex<Receiver<Vec<Job>>>, sink: Sink<'_>, shared: &Shared, watch: &Watch) {
    let next = || queue.lock().ok().and_then(|queue| queue.recv().ok());
    while let Some(batch) = next() {
        let take = |(number, fate, bytes): Job| match fate {
            Fate::Stage(node) => Ok((number, staged(sink, &node, apply::Body::Bytes(&bytes), watch)?)),
            _ => Ok((number, Taken { digest: Digest(Sha256::digest(&bytes).into()), slot: None })),
        };
        match batch.into_iter().map(take).collect() {
            Ok(taken) => shared.note(taken),
            // Goes on taking batches, so that the reader never waits for room; it sees the error with its next body.
            Err(error) => shared.fail(error),
        }
    }
}

fn staged(sink: Sink<'_>, node: &Node, body: apply::Body<'_>, watch: &Watch) -> Result<Taken> {
    let staged = sink.stage.file(node, body, watch)?;
    Ok(Taken { digest: staged.digest, slot: Some(staged.slot) })
}

fn hashed(body: &mut dyn Read) -> std::io::Result<Taken> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = body.read(&mut buffer)?;
        if length == 0 {
            return Ok(Taken { digest: Digest(hash.finalize().into()), slot: None });
        }
        hash.update(&buffer[..length]);
    }
}

/// Seen by nobody: the writers' own error is reported instead.
fn stopped() -> Error {
    Error::new(ErrorKind::Io, "the writers stopped")
}

/// Gives the nodes of `contents` the digests that were read.
pub(crate) fn with_digests(contents: Contents, read: &HashMap<u32, Taken>) -> Vec<(Node, Option<Slot>)> {
    let mut nodes = contents.nodes;
    let fill = |(mut node, number): (Node, Option<u32>)| {
        let known = number.and_then(|n| read.get(&n));
        if let (Kind::File { digest, .. }, Some(known)) = (&mut node.kind, known) {
            *digest = Some(known.digest);
        }
        (node, known.and_then(|k| k.slot))
    };
    nodes.drain(..).map(fill).collect()
}
