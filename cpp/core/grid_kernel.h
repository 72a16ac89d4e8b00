// The Gaussian of grid positions as B G B^T along each axis: B interpolates between coarse
// nodes, h grid steps apart, G is a short Gaussian filter on the nodes. With h = 1
// it is the exact sum, truncated.
#pragma once

#include "portable.h"

namespace densefield {

// Weight of the window at its sample k = 0 .. 2h-1: a box of h samples three times over, the
// last one of 2 samples. Samples h apart sum to 1/h, so a constant stays one.
template <typename T>
DF_HD T window_weight(int64_t step, int64_t k) {
  const int64_t right = k - step + 1, left = k - step;
  const int64_t right_distance = right < 0 ? -right : right;
  const int64_t left_distance = left < 0 ? -left : left;
  return T(2 * step - right_distance - left_distance) / T(2 * step * step);
}

// A grid coordinate lies between the nodes coordinate / h and the one behind it, with the
// window's samples h + coordinate % h and coordinate % h. Without steps there is one node.
template <typename T>
DF_HD T node_weight(int64_t step, int64_t coordinate, int corner) {
  if (step == 1) return T(1);
  return window_weight<T>(step, coordinate % step + (corner == 0 ? step : 0));
}

// Corners of a point are 2 per axis: more axes than this would need too many lines of nodes.
constexpr int kMaxGridKernelAxes = 4;

// Grid steps between nodes: about the widest that keep the relative error of a normalised
// filter below 0.3 % on images with sharp edges (measured; on noise it is smaller).
DF_HD int64_t node_step(double sigma, int64_t extent) {
  constexpr double kSmallestForTwo = 3.0, kSigmaPerStep = 3.0;
  if (sigma < kSmallestForTwo || extent == 1) return 1;
  return static_cast<int64_t>(smaller(larger(2.0, sigma / kSigmaPerStep), double(extent)));
}

DF_HD int64_t nodes_along(int64_t extent, int64_t step) {
  return step == 1 ? extent : (extent - 1) / step + 2;
}

// Variance of G on the nodes: the kernel's less that of two windows.
DF_HD double node_variance(double sigma, int64_t step) {
  if (step == 1) return sigma * sigma;
  const double h = double(step);
  const double window = 2 * (h * h - 1) / 12 + 0.25;
  return (sigma * sigma - 2 * window) / (h * h);
}

// Taps of G to one side, the middle one included. What is left out is below 3e-4 of the sum;
// between nodes below 1e-3, where more would not make the kernel more exact (measured).
DF_HD int64_t num_node_taps(double variance, int64_t step, int64_t num_nodes) {
  const double reach = step == 1 ? 3.5 : 2.9;
  return static_cast<int64_t>(
             __builtin_ceil(smaller(reach * __builtin_sqrt(variance), double(num_nodes - 1)))) +
         1;
}

// Tap r of G. Without steps the peak is 1; on nodes the sum over all taps, sqrt(2 pi v) times
// the peak, must give the kernel's own sum, sqrt(2 pi) sigma.
DF_HD double node_tap(double sigma, double variance, int64_t step, int64_t r) {
  const double peak = step == 1 ? 1.0 : double(step) * sigma / __builtin_sqrt(variance);
  return peak * __builtin_exp(-0.5 * double(r) * double(r) / variance);
}

// Its derivative by sigma, at a fixed step between nodes.
DF_HD double node_tap_gradient(double sigma, double variance, int64_t step, int64_t r) {
  const double h = double(step);
  const double grad_variance = 2 * sigma / (h * h);
  const double grad_log_peak = step == 1 ? 0.0 : 1 / sigma - 0.5 * grad_variance / variance;
  const double grad_exponent = 0.5 * double(r) * double(r) / (variance * variance) * grad_variance;
  return node_tap(sigma, variance, step, r) * (grad_log_peak + grad_exponent);
}

// K_ii is a product over the axes of what the filter carries from a point's two corners to
// themselves (tap 0) and to each other (tap 1). Without steps there is one corner.
template <typename T>
DF_HD T node_diagonal(int64_t step, T own_tap, T next_tap, T low_weight, T high_weight) {
  if (step == 1) return own_tap;
  return own_tap * (low_weight * low_weight + high_weight * high_weight) +
         T(2) * next_tap * low_weight * high_weight;
}

}  // namespace densefield
