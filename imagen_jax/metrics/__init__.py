"""Distances and scores of sets of pictures, and the files they are compared with.

pictures         a folder of pictures, read and checked, with its manifest
statistics       what a folder looks like to an extractor; the file that keeps it
comparison       all figures of one folder against a reference, with their warnings
moments          mean and covariance, streamed in float64
frechet          Frechet distance of two Gaussians
kernel_distance  squared maximum mean discrepancy of two sets
precision_recall k-nearest-neighbour manifolds
inception_score  how sure and how varied a classifier's answers are

All of it is numpy on features; the networks are in `imagen_jax.features`.
"""
