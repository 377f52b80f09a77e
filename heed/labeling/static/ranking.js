// An order with ties: tiers of slots, the best first. Every step gives a new order; none changes an old one.

export const nothing = [];

export function tierOf(tiers, slot) {
  return tiers.findIndex((tier) => tier.includes(slot));
}

export function isPlaced(tiers, slot) {
  return tierOf(tiers, slot) >= 0;
}

export function flat(tiers) {
  return tiers.flat();
}

export function without(tiers, slot) {
  return tiers.map((tier) => tier.filter((other) => other !== slot)).filter((tier) => tier.length);
}

// Into a tier of its own, below all others.
export function place(tiers, slot) {
  return isPlaced(tiers, slot) ? tiers : [...tiers, [slot]];
}

// The card joins the tier above its own; an unplaced card joins the lowest.
export function tieWithAbove(tiers, slot) {
  const above = isPlaced(tiers, slot) ? tierOf(tiers, slot) - 1 : tiers.length - 1;
  return above < 0 ? tiers : joinTier(tiers, slot, tiers[above][0]);
}

export function joinTier(tiers, slot, companion) {
  if (slot === companion) return tiers;
  return without(tiers, slot).map((tier) => (tier.includes(companion) ? [...tier, slot] : tier));
}

// One tier up (−1) or down (1). Out of a tie it first becomes a tier of its own.
export function move(tiers, slot, step) {
  const from = tierOf(tiers, slot);
  if (from < 0) return place(tiers, slot);
  const tied = tiers[from].length > 1;
  const rest = without(tiers, slot);
  const to = tied ? from + (step < 0 ? 0 : 1) : Math.min(Math.max(from + step, 0), rest.length);
  return [...rest.slice(0, to), [slot], ...rest.slice(to)];
}

// Into a tier of its own right before the tier that holds `next`, or at the end where `next` is null.
export function insertBefore(tiers, slot, next) {
  if (slot === next) return tiers;
  const rest = without(tiers, slot);
  const to = next === null ? rest.length : tierOf(rest, next);
  return [...rest.slice(0, to), [slot], ...rest.slice(to)];
}

// The sign between two neighbours of the flat order: a tie is parted there, or two tiers become one.
export function toggleTie(tiers, left, right) {
  const [a, b] = [tierOf(tiers, left), tierOf(tiers, right)];
  if (a !== b) return [...tiers.slice(0, a), [...tiers[a], ...tiers[b]], ...tiers.slice(b + 1)];
  const cut = tiers[a].indexOf(right);
  return [...tiers.slice(0, a), tiers[a].slice(0, cut), tiers[a].slice(cut), ...tiers.slice(a + 1)];
}

// Ranks by slot: 1 is the best, a tie shares a rank and the next tier has the next number; null is not placed.
export function ranksOf(tiers, count) {
  return Array.from({ length: count }, (_, slot) => (isPlaced(tiers, slot) ? tierOf(tiers, slot) + 1 : null));
}

export function fromRanks(ranks) {
  const levels = [...new Set(ranks.filter((rank) => rank !== null))].sort((a, b) => a - b);
  return levels.map((level) => ranks.flatMap((rank, slot) => (rank === level ? [slot] : [])));
}
