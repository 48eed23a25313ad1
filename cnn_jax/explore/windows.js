// The arithmetic of windows and padding. No page: what is computed here is compared with the library in a test.
const Windows = {
  FILLS: ["left out", "zero", "reflect", "replicate", "circular", "symmetric"],

  // Pixels added before and after a side of n pixels, for windows that reach over `reach` pixels.
  pads(mode, n, reach, stride, custom) {
    if (mode === "valid") return [0, 0];
    if (mode === "full") return [reach - 1, reach - 1];
    if (mode === "same") {
      const total = Math.max((Math.ceil(n / stride) - 1) * stride + reach - n, 0);
      return [Math.floor(total / 2), total - Math.floor(total / 2)];  // an odd pixel goes to the end, as in Keras
    }
    return custom;
  },

  // Where the value of a place beyond the edge comes from; null: from nowhere.
  from(place, n, fill) {
    if (place >= 0 && place < n) return place;
    if (fill === "replicate") return place < 0 ? 0 : n - 1;
    if (fill === "reflect") return place < 0 ? -place : 2 * (n - 1) - place;
    if (fill === "symmetric") return place < 0 ? -place - 1 : 2 * n - 1 - place;
    if (fill === "circular") return ((place % n) + n) % n;
    return null;
  },

  // Everything the page shows, or {error}. numbers: rows of numbers; rows: [above, below], columns: [left, right].
  compute({numbers, window, stride, dilation, mode, rows, columns, fill, kind}) {
    const n = numbers.length, reach = dilation * (window - 1) + 1;
    const [top, bottom] = Windows.pads(mode, n, reach, stride, rows);
    const [left, right] = Windows.pads(mode, n, reach, stride, columns);
    const most = Math.max(top, bottom, left, right);
    const room = {reflect: n - 1, circular: n, symmetric: n}[fill];
    if (room !== undefined && most > room)
      return {error: `“${fill}” can add at most ${room} pixels to a side of ${n}, and ${most} are asked for`};
    const size = [n + top + bottom, n + left + right];
    const places = size.map(side => Math.floor((side - reach) / stride) + 1);
    if (Math.min(...places) < 1)
      return {error: `a window that reaches over ${reach} pixels does not fit into ${Math.min(...size)}`};
    if (fill === "left out" && most >= reach && mode === "custom")
      return {error: `padding that is left out must be less than the ${reach} pixels that a window reaches over`};
    const padded = [];
    for (let i = 0; i < size[0]; i++) {
      const line = [];
      for (let j = 0; j < size[1]; j++) {
        const y = Windows.from(i - top, n, fill), x = Windows.from(j - left, n, fill);
        const inside = i >= top && i < top + n && j >= left && j < left + n;
        const value = y !== null && x !== null ? numbers[y][x] : fill === "zero" ? 0 : null;
        line.push({value, inside});
      }
      padded.push(line);
    }
    const output = [];
    for (let row = 0; row < places[0]; row++) {
      const line = [];
      for (let column = 0; column < places[1]; column++) line.push(Windows.at(padded, row, column, window, stride, dilation, kind));
      output.push(line);
    }
    if (output.flat().some(each => !each.values.length))
      return {error: "padding is left out, and some windows would read nothing else: choose less of it, or a fill"};
    return {padded, output, places, size, reach, pads: {top, bottom, left, right}};
  },

  // The window of one place: which cells it reads, and what comes of them.
  at(padded, row, column, window, stride, dilation, kind) {
    const cells = [], values = [];
    for (let i = 0; i < window; i++) {
      for (let j = 0; j < window; j++) {
        const y = row * stride + i * dilation, x = column * stride + j * dilation;
        cells.push([y, x]);
        if (padded[y][x].value !== null) values.push(padded[y][x].value);
      }
    }
    const sum = values.reduce((a, b) => a + b, 0);
    const value = kind === "average" ? sum / values.length : Math[kind](...values);
    return {value, cells, values};
  },

  // (n + 2p - k) / s + 1 with the numbers filled in.
  sum(n, [low, high], reach, stride) {
    const exact = (n + low + high - reach) / stride + 1, places = Math.floor(exact);
    const padding = low === high ? `2·${low}` : `${low} + ${high}`;
    return `(${n} + ${padding} − ${reach}) / ${stride} + 1 = ${Windows.short(exact)}` + (exact === places ? "" : `, whole ${places}`);
  },

  short(value) {
    return String(Number(value.toFixed(2)));
  },
};
