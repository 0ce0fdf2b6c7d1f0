//! A breadth-first explorer of all states of a model: exact counts, the shortest way to whatever breaks, and whether every state
//! still leads to a goal.
//!
//! Of a visited state it keeps a 64-bit hash, its parent and the number of the action that led to it; whole states are kept for the
//! frontier only. A counter-example is made by going the numbered actions again from the beginning.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

/// What is explored.
pub(crate) trait Model {
    /// One state of everything.
    type State: Clone;
    /// Something that can happen.
    type Action: Copy;

    /// Where it begins.
    fn initial(&self) -> Self::State;
    /// What can happen, in a fixed order.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;
    /// What comes of it; `None`: nothing new. The text names what it broke.
    fn apply(&self, state: &Self::State, action: Self::Action) -> Option<(Self::State, Option<String>)>;
    /// Equal for states that are the same but for names.
    fn hash(&self, state: &Self::State) -> u64;
    /// Whether this is where things should come to.
    fn is_goal(&self, state: &Self::State) -> bool;
    /// One line for people.
    fn describe(&self, state: &Self::State, action: Self::Action) -> String;
    /// A level is finished: what was remembered for states that are gone may go.
    fn level_done(&self) {}
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    pub(crate) depth: usize,
    /// Not all states fit into the limit.
    pub(crate) cut: bool,
    /// What broke, and the way there.
    pub(crate) broken: Option<(String, Vec<String>)>,
    /// States from which no goal can be reached, and the way to the nearest.
    pub(crate) stuck: Option<(usize, Vec<String>)>,
}

/// Hashes are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _bytes: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Steps shown beyond a state that leads nowhere.
const FOLLOWED: usize = 20;

struct Graph {
    known: HashMap<u64, u32, BuildHasherDefault<Same>>,
    parents: Vec<(u32, u16)>,
    edges: Vec<(u32, u32)>,
    goals: Vec<u32>,
}

/// Goes through all states, at most `limit`. `progress` is told after each level: depth, states, states of the frontier.
pub(crate) fn explore<M: Model>(model: &M, limit: usize, mut progress: impl FnMut(usize, usize, usize)) -> Found {
    let first = model.initial();
    let mut graph = Graph { known: HashMap::default(), parents: vec![(0, 0)], edges: Vec::new(), goals: Vec::new() };
    graph.known.insert(model.hash(&first), 0);
    let mut frontier = vec![(0_u32, first)];
    let mut found = Found { states: 1, transitions: 0, depth: 0, cut: false, broken: None, stuck: None };
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (id, state) in frontier.drain(..) {
            if model.is_goal(&state) {
                graph.goals.push(id);
            }
            for (number, action) in model.actions(&state).into_iter().enumerate() {
                let Some((child, broke)) = model.apply(&state, action) else { continue };
                found.transitions += 1;
                let number = u16::try_from(number).unwrap();
                if let Some(what) = broke {
                    let mut way = path(model, &graph, id, 0);
                    way.push(model.describe(&state, action));
                    found.broken = Some((what, way));
                    found.depth += 1;
                    found.states = graph.parents.len();
                    return found;
                }
                let fresh = u32::try_from(graph.parents.len()).unwrap();
                let to = match graph.known.entry(model.hash(&child)) {
                    Entry::Occupied(seen) => *seen.get(),
                    Entry::Vacant(place) => {
                        if graph.parents.len() >= limit {
                            found.cut = true;
                            continue;
                        }
                        place.insert(fresh);
                        graph.parents.push((id, number));
                        next.push((fresh, child));
                        fresh
                    }
                };
                graph.edges.push((id, to));
            }
        }
        model.level_done();
        found.depth += usize::from(!next.is_empty());
        progress(found.depth, graph.parents.len(), next.len());
        frontier = next;
    }
    found.states = graph.parents.len();
    found.stuck = (!found.cut).then(|| stuck(model, &graph)).flatten();
    found
}

/// From which states no goal can be reached: backwards from the goals. Edges mostly lead to later states, so going through them from
/// the end settles nearly all in the first round.
fn stuck<M: Model>(model: &M, graph: &Graph) -> Option<(usize, Vec<String>)> {
    let mut leads = vec![false; graph.parents.len()];
    graph.goals.iter().for_each(|goal| leads[*goal as usize] = true);
    let mut changed = true;
    while changed {
        changed = false;
        for (from, to) in graph.edges.iter().rev() {
            if leads[*to as usize] && !leads[*from as usize] {
                leads[*from as usize] = true;
                changed = true;
            }
        }
    }
    let nearest = leads.iter().position(|leads| !leads)?;
    let count = leads.iter().filter(|leads| !**leads).count();
    let mut way = path(model, graph, u32::try_from(nearest).unwrap(), FOLLOWED);
    way.push(format!("({count} states like this)"));
    Some((count, way))
}

/// The way to a state, one line for each action.
/// For `further` actions it goes on with the first that is possible.
fn path<M: Model>(model: &M, graph: &Graph, mut id: u32, further: usize) -> Vec<String> {
    let mut numbers = Vec::new();
    while id != 0 {
        let (parent, number) = graph.parents[id as usize];
        numbers.push(number);
        id = parent;
    }
    let mut state = model.initial();
    let mut lines = Vec::new();
    for number in numbers.into_iter().rev() {
        let action = model.actions(&state)[usize::from(number)];
        lines.push(model.describe(&state, action));
        state = model.apply(&state, action).unwrap().0;
    }
    for _ in 0..further {
        let Some(action) = model.actions(&state).first().copied() else { break };
        lines.push(format!("(then) {}", model.describe(&state, action)));
        let Some((next, _)) = model.apply(&state, action) else { break };
        state = next;
    }
    lines
}
