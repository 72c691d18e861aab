// Which words two texts do not share: the longest common subsequence of their words.

const MOST = 4_000_000; // cells of the table; beyond that, common words are found without their order

/** A text as words and the white space between them, which together are the text. */
export const pieces = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];

/** For each text its pieces as `[words, isOnlyHere]`, neighbours of a kind together. */
export function difference(first, second) {
  const one = pieces(first);
  const other = pieces(second);
  const [keptOne, keptOther] = common(one, other);
  return [runs(one, keptOne), runs(other, keptOther)];
}

function common(one, other) {
  const keptOne = new Array(one.length).fill(false);
  const keptOther = new Array(other.length).fill(false);
  let begin = 0;
  let [endOne, endOther] = [one.length, other.length];
  while (begin < endOne && begin < endOther && one[begin] === other[begin]) {
    keptOne[begin] = keptOther[begin] = true;
    begin += 1;
  }
  while (endOne > begin && endOther > begin && one[endOne - 1] === other[endOther - 1]) {
    endOne -= 1;
    endOther -= 1;
    keptOne[endOne] = keptOther[endOther] = true;
  }
  const [rows, columns] = [endOne - begin, endOther - begin];
  if (rows * columns > MOST) {
    const [inOne, inOther] = [new Set(one), new Set(other)];
    for (let at = begin; at < endOne; at += 1) keptOne[at] = inOther.has(one[at]);
    for (let at = begin; at < endOther; at += 1) keptOther[at] = inOne.has(other[at]);
    return [keptOne, keptOther];
  }
  // lengths[i][j]: the longest common subsequence of what is left from i and from j on
  const width = columns + 1;
  const lengths = new Uint16Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i -= 1) {
    for (let j = columns - 1; j >= 0; j -= 1) {
      const at = i * width + j;
      lengths[at] =
        one[begin + i] === other[begin + j]
          ? lengths[at + width + 1] + 1
          : Math.max(lengths[at + width], lengths[at + 1]);
    }
  }
  for (let i = 0, j = 0; i < rows && j < columns; ) {
    const at = i * width + j;
    if (one[begin + i] === other[begin + j]) {
      keptOne[begin + i] = keptOther[begin + j] = true;
      i += 1;
      j += 1;
    } else if (lengths[at + width] >= lengths[at + 1]) i += 1;
    else j += 1;
  }
  return [keptOne, keptOther];
}

function runs(words, kept) {
  const found = [];
  words.forEach((word, at) => {
    const only = !kept[at];
    const last = found.at(-1);
    if (last && last[1] === only) last[0] += word;
    else found.push([word, only]);
  });
  return found;
}
